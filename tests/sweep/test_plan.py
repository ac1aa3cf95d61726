"""Planning: what is refused before anything starts, seeds and grids, estimates, the unit's ingredients."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from common.config import ConfigError, load_spec
from common.sweep.execute import waiting
from common.sweep.plan import (
    Planned, cost_line, describe, estimate, parse_seeds, plan, totals, verify_panels,
)
from common.sweep.unit import MissingInput, base_dir, base_hash, folder_hash, open_unit, results_dir


def one(minutes, finished=False):
    return Planned("p", "e", 0, "cpu", {}, None, None, "", finished, minutes, 10.0)


@pytest.mark.parametrize(("text", "seeds"), [("0-4", (0, 1, 2, 3, 4)), ("7", (7,)), ("0,2-3", (0, 2, 3))])
def test_seeds(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "0,0", "0-2,1", "3-1"])
def test_wrong_seeds(text):
    with pytest.raises(ConfigError, match="seeds"):
        parse_seeds(text)


def test_a_plan_has_every_unit_once(lab):
    planned = plan(lab, "toy", seeds=(0, 1), profile="cpu", grid=[{"steps": 4}, {"steps": 5}, {}])
    # 4 is the default, so {} adds nothing
    assert [(unit.seed, unit.overrides) for unit in planned] == [
        (0, {"steps": 4}), (1, {"steps": 4}), (0, {"steps": 5}), (1, {"steps": 5})]
    assert len({unit.unit.key for unit in planned}) == 4
    assert planned[0].parameters == {
        "paper": "toy", "env": "toy-v1", "seed": 0, "profile": "cpu", "overrides": {"steps": 4},
        "train": True}


@pytest.mark.parametrize(("arguments", "message"), [
    ({"profile": "cpuu"}, 'did you mean "cpu"'),
    ({"envs": ("toy-v2",)}, 'does not run on "toy-v2"; did you mean "toy-v1"'),
    ({"grid": [{"step": 3}]}, 'unknown parameter "step"; did you mean "steps"'),
    ({"grid": [{"steps": "3"}]}, "steps is '3', text, but must be a whole number"),
])
def test_wrong_names_and_values(lab, arguments, message):
    with pytest.raises(ConfigError) as error:
        plan(lab, "toy", **{"seeds": (0,), "profile": "cpu", **arguments})
    assert message in str(error.value)
    assert not (lab / "runs").exists()


def test_missing_inputs_name_the_next_step(lab):
    (lab / "models/toy-v1/weights.json").unlink()
    with pytest.raises(MissingInput, match="models/toy-v1 does not exist.*python -m common base --env toy-v1"):
        plan(lab, "toy", seeds=(0,), profile="cpu")
    dry = plan(lab, "toy", seeds=(0,), profile="cpu", dry=True)
    assert dry[0].unit is None and "missing: base model" in describe(dry, 1)
    (lab / "models/toy-v1/weights.json").write_text("{}")
    (lab / "data/toy-v1/manifest.json").unlink()
    with pytest.raises(MissingInput, match="python -m common data"):
        plan(lab, "toy", seeds=(0,), profile="cpu")


CHAT = f"some/chat@{40 * '0'}"


def test_a_paper_that_names_a_model_starts_from_it(lab):
    with pytest.raises(ConfigError, match="toy does not run from pretrained models yet .*has no parameter model.*at cpu"):
        plan(lab, "toy", seeds=(0,), profile="smol")
    for name, old, new in (("method.py", "    steps: int\n", "    steps: int\n    model: str\n"),
                           ("params.yaml", "parameters:\n", f"parameters:\n  model: {{default: nano, smol: {CHAT}, "
                            "source: ours}\n")):  # fmt: skip
        file = lab / "papers/toy" / name
        file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(ConfigError, match='model: "nano" is trained here, but there is none of toy-v1 at profile gpu'):
        plan(lab, "toy", seeds=(0,), profile="gpu")
    with pytest.raises(ConfigError, match='"some/chat" names no commit'):
        plan(lab, "toy", seeds=(0,), profile="cpu", grid=[{"model": "some/chat"}])
    with pytest.raises(MissingInput, match=f"pretrained/some--chat@0.* does not exist.*python -m common pretrained {CHAT}"):
        plan(lab, "toy", seeds=(0,), profile="smol")
    weights = lab / "pretrained" / CHAT.replace("/", "--") / "weights.json"
    weights.parent.mkdir(parents=True)
    keys = set()
    for text in ("{}", "[]"):
        weights.write_text(text)
        [one] = plan(lab, "toy", seeds=(0,), profile="smol")
        assert one.unit.base == folder_hash(weights.parent)
        assert base_dir(lab, "toy-v1", "smol", one.unit.params) == weights.parent
        keys.add(one.unit.key)
    assert len(keys) == 2
    [trained, named] = plan(lab, "toy", seeds=(0,), profile="cpu", grid=[{}, {"model": CHAT}])
    assert trained.unit.base == folder_hash(lab / "models/toy-v1") and named.unit.base == folder_hash(weights.parent)


@pytest.mark.parametrize(("content", "message"), [("", "is missing or empty"), ("{}\n", "was altered")])
def test_damaged_panels_stop_the_plan(lab, content, message):
    (lab / "data/toy-v1/test.jsonl").write_text(content)
    manifest = {"env": "toy-v1", "files": {"test.jsonl": {"rows": 1, "sha256": "0" * 64}}}
    (lab / "data/toy-v1/manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ConfigError, match=f"data/toy-v1/test.jsonl {message}.*python -m common data"):
        verify_panels(lab, "toy-v1")


def test_keys_change_with_what_matters_and_only_with_it(lab):
    def key():
        return plan(lab, "toy", seeds=(0,), profile="cpu")[0].unit.key

    first = key()
    method = lab / "papers/toy/method.py"
    method.write_text(method.read_text() + "\n# a comment\n")
    (lab / "notebooks/toy.ipynb").write_text("{}")
    (lab / "models/toy-v1/timing.json").write_text("1")
    lock = lab / "requirements.lock"
    lock.write_text(lock.read_text().replace("toy==1.0", "toy==2.0"))  # computes nothing
    assert key() == first
    for name, old, new in (("papers/toy/method.py", "% 1000", "% 999"), ("requirements.lock", "1.0", "1.1"),
                           ("models/toy-v1/weights.json", "{}", "[]"), ("data/toy-v1/manifest.json", "{}", '{"a": 1}')):
        text = (lab / name).read_text()
        (lab / name).write_text(text.replace(old, new))
        if "manifest" not in name:
            assert key() != first, name
        (lab / name).write_text(text)
    assert key() == first


def test_totals_are_wall_clock():
    assert totals([one(3.0), one(2.0), one(1.0), one(9.0, finished=True)], 2) == (3.0, 30.0)
    assert totals([one(3.0), one(None)], 2) == (None, None)
    assert "nothing to run" in cost_line([one(1.0, finished=True)], 2)


def test_estimates_prefer_the_store_then_the_published_time_then_the_paper(lab):
    spec = load_spec(lab, "toy")
    assert estimate(lab, spec, "toy-v1", "cpu") == (None, None)
    published = lab / "results/toy/timing.json"
    published.parent.mkdir(parents=True)
    published.write_text(json.dumps({"cpu": {"toy-v1": {"minutes": 2.0, "disk_mb": 3.0, "units": 5}}}))
    assert estimate(lab, spec, "toy-v1", "cpu") == (2.0, 3.0)
    published.write_text("not json")
    assert estimate(lab, spec, "toy-v1", "cpu") == (None, None)
    params = lab / "papers/toy/params.yaml"
    params.write_text("estimate:\n  cpu: {minutes: 4, disk_mb: 30}\n" + params.read_text())
    assert estimate(lab, load_spec(lab, "toy"), "toy-v1", "cpu") == (4.0, 30.0)


def test_smoke_never_shares_a_folder_with_results(lab):
    assert results_dir(lab, "smoke") == lab / "runs/smoke/results" and results_dir(lab, "cpu") == lab / "results"
    assert base_dir(lab, "toy-v1", "smoke") == lab / "models/toy-v1"
    assert base_dir(lab, "toy-v1", "gpu") is None
    assert base_hash(lab, "toy-v1", "cpu") == folder_hash(lab / "models/toy-v1")


def test_opening_a_unit_without_a_parent_process_from_any_directory(lab, tmp_path):
    code = ("from common.sweep.unit import open_unit\n"
            "unit = open_unit(paper='toy', env='toy-v1', seed=3, profile='cpu', overrides={'steps': 2})\n"
            "assert (unit.params.steps, unit.params.fail_at, unit.run.finished) == (2, -1, False)\n"
            "print(unit.run.path, unit.base, unit.data)")
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, text=True, capture_output=True,
                            env={"PYTHONPATH": str(lab), "PATH": ""})
    assert result.returncode == 0, result.stderr
    run, base, data = result.stdout.split()
    assert (base, data) == (str(lab / "models/toy-v1"), str(lab / "data"))
    assert run.startswith(str(lab / "runs/toy/"))


@pytest.mark.parametrize("wrong", [{"paper": "tooy"}, {"env": "toy"}, {"profile": "gpuu"}, {"seed": "0"}, {"seed": -1},
                                   {"overrides": {"stepps": 1}}])
def test_a_wrong_value_opens_nothing(lab, wrong):
    with pytest.raises(ConfigError):
        open_unit(**{"paper": "toy", "env": "toy-v1", "seed": 0, "profile": "cpu", "root": lab, **wrong})
    assert not (lab / "runs").exists()


def test_the_longest_units_start_first_and_equal_ones_keep_their_order():
    assert waiting([one(1.0), one(4.0), one(1.0), one(4.0), one(4.0, finished=True), one(None)]) == [1, 3, 0, 2, 5]
