"""Notebooks that are no units, and base models kept across DVC's deletions."""

from __future__ import annotations

import json
import sys
import types

import pytest

from common.config import ConfigError
from common.envs import ENV_IDS
from common.sweep import inputs
from common.sweep.documents import NotebookFailed, render
from common.sweep.plan import USER_ENVS
from common.sweep.unit import base_dir, base_hash

TOUR = '''# %% [markdown]
# # Tour

# %% tags=["parameters"]
profile: str = "cpu"  # scale

# %%
print("the profile is", profile)
'''


def test_a_page_is_rendered_with_the_parameters_that_the_notebook_declares(lab):
    source = lab / "notebooks/00_tour.py"
    source.write_text(TOUR)
    page = lab / "site/index.html"
    executed = render(lab, source, page, {"profile": "smoke", "unknown": 1})
    assert "the profile is smoke" in page.read_text() and executed.exists()

    untagged = TOUR.replace(' tags=["parameters"]', "")  # allowed here: nothing is passed then
    source.write_text(untagged + "\n# %%\n1 / 0\n")
    with pytest.raises(NotebookFailed, match="notebooks/00_tour.py failed in cell 4: ZeroDivisionError"):
        render(lab, source, None, {"profile": "smoke"})
    assert (lab / "runs/failed/00_tour.ipynb").exists()


@pytest.fixture
def trainer(monkeypatch):
    """A stand-in for ``common.base`` that counts its calls."""
    calls = []

    def train_base(env_id, profile, data_dir, out_dir, seed, *, log):
        calls.append((env_id, profile, seed))
        log(1, {"loss": 2.0})
        (out_dir / "weights.json").write_text(json.dumps([env_id, profile, seed]))

    module = types.ModuleType("common.base")
    module.train_base = train_base
    monkeypatch.setitem(sys.modules, "common.base", module)
    return calls


def test_training_a_base_model_says_how_far_it_is(capsys):
    log = inputs.progress_log(inputs.Progress(4, "base model of toy", what="updates", stream=sys.stdout, every=0.0))
    log(1, {"loss": 2.0})
    log(2, {"loss": 1.5})
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("base model of toy: 1 of 4 updates done, 3 remaining, time left unknown, ")
    assert second.startswith("base model of toy: 2 of 4 updates done, 2 remaining, ~0.1 min left, ")
    assert second.endswith("loss 1.500")


def test_a_base_model_is_trained_once_and_restored_after_a_deletion(lab, trainer):
    manifest = lab / "data/countdown-v1/manifest.json"
    manifest.parent.mkdir()
    manifest.write_text(json.dumps({"env": "countdown-v1", "files": {}}))
    assert "trained → models/countdown-v1" in inputs.build_base(lab, "countdown-v1")
    weights = lab / "models/countdown-v1/weights.json"
    first = weights.read_text()
    weights.unlink()
    assert "unchanged" in inputs.build_base(lab, "countdown-v1") and weights.read_text() == first
    manifest.write_text(json.dumps({"env": "countdown-v1", "files": {}, "new": 1}))
    inputs.build_base(lab, "countdown-v1")
    assert trainer == [("countdown-v1", "cpu", 0)]  # "new" is no part of the files


def test_a_killed_training_leaves_no_base_model(lab, trainer, monkeypatch):
    def die(*_, log):
        raise KeyboardInterrupt

    manifest = lab / "data/countdown-v1/manifest.json"
    manifest.parent.mkdir()
    manifest.write_text(json.dumps({"env": "countdown-v1", "files": {}}))
    monkeypatch.setattr(sys.modules["common.base"], "train_base", die)
    with pytest.raises(KeyboardInterrupt):
        inputs.build_base(lab, "countdown-v1")
    assert not (lab / "models/countdown-v1").exists()
    assert not list((lab / "runs/base").glob("countdown*"))


@pytest.mark.parametrize(("env", "message"), [
    ("countdown-v11", 'did you mean "countdown-v1"'), ("minatar-breakout-v1", "has no base model")])
def test_wrong_names_train_nothing(lab, trainer, env, message):
    with pytest.raises(ConfigError, match=message):
        inputs.build_base(lab, env)
    assert trainer == []


def test_an_environment_without_a_base_model_trains_none(lab, trainer, monkeypatch):
    monkeypatch.setattr("common.lm.bases._rows", lambda: {"shop-v1": "none"})
    assert base_dir(lab, "shop-v1", "cpu") is None and base_hash(lab, "shop-v1", "cpu") == ""
    with pytest.raises(ConfigError, match="env: shop-v1 has no base model"):
        inputs.build_base(lab, "shop-v1")
    assert trainer == []


def test_damaged_panels_are_built_again(lab, monkeypatch):
    built = []
    monkeypatch.setattr("common.envs.build.build_all", lambda folder: built.append(folder) or {"shop-v1": {"test": 2}})
    assert inputs.build_data(lab) == "built shop-v1: 2 rows in 1 files" and built == [lab / "data"]
    for env in set(ENV_IDS) - set(USER_ENVS):
        (lab / "data" / env).mkdir()
        (lab / "data" / env / "manifest.json").write_text(json.dumps({"env": env, "files": {}}))
    assert "nothing to build" in inputs.build_data(lab) and len(built) == 1
