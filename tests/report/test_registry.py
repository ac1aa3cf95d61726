"""Publishing a trained policy: which weights are meant, and the registered model says what the weights say."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from common.config import ConfigError
from common.report.exports.registry import finished, publish_model, weight_folders
from common.rows import write_metrics
from common.track.mlflow_log import Tracker
from common.track.mlflow_store import local_uri
from common.track.store import Run, UnitSpec
from tests.report.test_export import CLAIMS, REPOSITORY, row
from tests.track.test_mlflow_log import SOURCE

UNIT = UnitSpec(paper="toy", env="shop-v1", seed=0, profile="cpu", params="{}", room="r", layers={}, data={}, base="b", pins="p")


def touch(path: Path, *stages: str) -> None:
    for stage in stages:
        (path / "stages" / stage).mkdir(parents=True)
        (path / "stages" / stage / "config.json").write_text("{}")


def test_the_last_round_s_weights_are_a_variant_s(tmp_path):
    touch(tmp_path, "train.toy.r1", "train.toy.r2", "train.toy.r10", "train.rise.it1", "train.sft",
          "train.cory/pioneer", "train.cory/observer", "train.iwm.act", "train.iwm.world")  # fmt: skip
    found = {name: path.relative_to(tmp_path / "stages").as_posix() for name, path in weight_folders(tmp_path).items()}
    assert found == {"toy": "train.toy.r10", "rise": "train.rise.it1", "sft": "train.sft",
                     "cory/pioneer": "train.cory/pioneer", "cory/observer": "train.cory/observer",
                     "iwm.act": "train.iwm.act", "iwm.world": "train.iwm.world"}  # fmt: skip
    assert weight_folders(tmp_path / "stages") == {}


@pytest.fixture
def lab(tmp_path, empty_store, monkeypatch):
    """A project with one finished unit, of which MLflow knows; its weights are a random nano model."""
    from common.lm.models import new_nano, save_model
    from common.lm.tokenizer import train_tokenizer

    import mlflow

    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID", "HF_HUB_OFFLINE"):  # set by what is tested
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    (tmp_path / "papers" / "toy").mkdir(parents=True)
    (tmp_path / "papers" / "toy" / "claims.yaml").write_text(CLAIMS)
    shutil.copy(REPOSITORY / "CITATION.cff", tmp_path)
    (tmp_path / "mlruns").mkdir()
    shutil.copy(empty_store, tmp_path / "mlruns" / "mlflow.db")
    rows = [row(seed=0), row("base", value=0.75)]
    write_metrics(tmp_path / "results" / "toy" / "metrics.jsonl", rows)
    run = Run.open(tmp_path, UNIT)
    tokenizer = train_tokenizer(["search buy page goal"] * 50, 300, split_digits=False)
    model = new_nano(tokenizer, width=16, layers=1, heads=2, context=64, seed=0)

    def train():
        with run.stage_dir("train.toy.r1") as folder:
            save_model(model, tokenizer, folder)

    run.stage("train.toy.r1", train)
    run.write_rows(rows)
    run.finish()
    with Tracker(tmp_path) as tracker:
        sweep = tracker.sweep_run("toy", SOURCE, {})
        tracker.finish(tracker.unit_run(sweep, UNIT), run.path)
        tracker.finish_sweep(sweep, failed=0)
    yield tmp_path
    mlflow.set_tracking_uri("")


def test_a_published_policy_answers_as_its_weights_do(lab):
    import mlflow
    import torch

    from common.lm.models import load_model

    # base is better, but only toy has weights
    message = publish_model(lab, "toy", env="shop-v1", profile="cpu", variant=None, policy=None, seed=None)
    assert message.startswith("toy.toy.shop-v1 version 1: weights of seed 0 from runs/toy/")
    store = mlflow.MlflowClient(local_uri(lab))
    version = store.get_model_version("toy.toy.shop-v1", "1")
    assert version.tags["lab.seed"] == "0" and "# toy of toy in shop-v1" in version.description
    runs = {one.info.run_name: one for one in store.search_runs([store.get_experiment_by_name("toy").experiment_id])}
    (output,) = runs["toy"].outputs.model_outputs
    assert runs["toy"].info.status == "FINISHED" and {file.path for file in store.list_logged_model_artifacts(
        output.model_id)} >= {"README.md", "MLmodel"}  # fmt: skip

    loaded = mlflow.pyfunc.load_model("models:/toy.toy.shop-v1/1")
    assert loaded.metadata.signature.inputs.input_types()[0].name == "string"
    model, tokenizer = load_model(next(iter(finished(lab, "toy", "shop-v1", "cpu").values())) / "stages/train.toy.r1")
    asked = [{"role": "user", "content": "goal"}]
    prompt = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        wanted = model.generate(ids, max_new_tokens=24, do_sample=False)[0, ids.shape[1] :]
    (action,) = loaded.predict([prompt])
    assert action.strip() == tokenizer.decode(wanted, skip_special_tokens=True).strip() != ""


@pytest.mark.parametrize(("change", "message"), [
    ({"policy": "toi"}, r"no weights of toi are kept.*there are: toy"),
    ({"seed": 7}, r"seed 7 of toy in shop-v1 is not finished here"),
    ({"profile": "smoke"}, r"toy in shop-v1 is not finished here at profile smoke"),
    ({"variant": "nothing", "policy": "toy"}, r'no row of "nothing" in shop-v1'),
])  # fmt: skip
def test_what_cannot_be_published_is_said(lab, change, message):
    asked = {"env": "shop-v1", "profile": "cpu", "variant": None, "policy": None, "seed": None}
    with pytest.raises(ConfigError, match=message):
        publish_model(lab, "toy", **{**asked, **change})


def test_a_unit_that_the_store_does_not_know_is_not_published(lab):
    run = Run.open(lab, replace(UNIT, seed=1))
    shutil.copytree(next((lab / "runs" / "toy").glob("*/stages/train.toy.r1")), run.path / "stages" / "train.toy.r1")
    run.write_rows([row(seed=1)])
    run.finish()
    with pytest.raises(ConfigError, match="has no run in the MLflow store"):
        publish_model(lab, "toy", env="shop-v1", profile="cpu", variant=None, policy=None, seed=1)
