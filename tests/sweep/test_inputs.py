"""Which table holds published rows, what it says of the base model behind it, and base models that are not what they should be."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from common.rows import COST_FIELDS, MetricRow, write_metrics
from common.sweep import inputs
from common.sweep.unit import MissingInput, base_hash, truncated
from common.track.fingerprints import read
from common.track.layers import FILE

ROOT = Path(__file__).resolve().parents[2]


def test_a_table_is_found_by_environment_and_profile(tmp_path):
    def row(env: str, profile: str) -> MetricRow:
        return MetricRow("toy", env, profile, "nano", "a", 0, f"{env}/test", "success", 0.5, 10, dict.fromkeys(COST_FIELDS, 1))

    own, other, more = (tmp_path / "toy" / f"metrics{name}.jsonl" for name in ("", ".shop-v1.smol", ".gsm8k-v1"))
    write_metrics(own, [row("shop-v1", "cpu"), row("countdown-v1", "cpu")])
    write_metrics(other, [row("shop-v1", "smol")])
    write_metrics(more, [row("gsm8k-v1", "smol"), row("gsm8k-v1", "gpu")])
    found = {(env, profile): inputs.table_of(tmp_path, "toy", env, profile) for env in ("shop-v1", "countdown-v1", "gsm8k-v1")
             for profile in ("cpu", "smol", "gpu")}  # fmt: skip
    assert {place for place, table in found.items() if table == other} == {("shop-v1", "smol")}
    assert {place for place, table in found.items() if table == more} == {("gsm8k-v1", "smol"), ("gsm8k-v1", "gpu")}
    assert found["shop-v1", "cpu"] == found["shop-v1", "gpu"] == own


@pytest.mark.parametrize(("base", "same"), [("weights 1234", True), ("0123456789abcdef", False), ("", True)])
def test_tables_from_before_base_models_were_shipped_are_told(tmp_path, base, same):
    """They name how their base model was trained, and not its weights."""
    (tmp_path / "source.json").write_text(json.dumps({"metrics.jsonl": {"cpu": {"toy-v1": {"base": base}}}}))
    assert inputs.same_weights(tmp_path / "metrics.jsonl", "toy-v1", "cpu") is same


def test_fingerprints_of_published_tables_are_in_the_file():
    """Else nobody could say what behaviour a table was computed by."""
    prints, seen = read(ROOT), 0
    for path in ROOT.glob("results/*/source.json"):
        for profiles in json.loads(path.read_text()).values():
            for entry in (one for by_env in profiles.values() for one in by_env.values()):
                for layer, fingerprint in entry.get("layers", {}).items():
                    if not layer.startswith(FILE):
                        assert fingerprint in prints.layers[layer], (path.parent.name, layer)
                        seen += 1
    assert seen > 50


def test_a_base_model_that_is_not_the_published_one_is_named(tmp_path):
    for name in ("dvc.lock", "common/lm/bases.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    assert inputs.changed_bases(tmp_path) == []  # none is there: another message says so
    if not (ROOT / "models/shop-v1").is_dir():
        pytest.skip("needs models/shop-v1; run: dvc pull")
    shutil.copytree(ROOT / "models/shop-v1", tmp_path / "models/shop-v1")
    assert inputs.changed_bases(tmp_path) == []
    os.truncate(tmp_path / "models/shop-v1/tokenizer.json", 100)
    (told,) = inputs.changed_bases(tmp_path)
    assert told.startswith("models/shop-v1 is not the published base model") and told.endswith("dvc pull --force base@shop-v1")


def test_truncated_weights_are_named_before_anything_is_computed_from_them(tmp_path):
    folder = tmp_path / "models/countdown-v1"
    folder.mkdir(parents=True)
    weights = folder / "model.safetensors"
    save_file({"a": np.zeros((4, 5), np.float32), "b": np.ones(3, np.float32)}, weights, metadata={"format": "pt"})
    whole = weights.stat().st_size
    assert truncated(weights) == "" and base_hash(tmp_path, "countdown-v1", "cpu")
    os.truncate(weights, whole - 1)
    with pytest.raises(MissingInput, match=rf"countdown-v1/model.safetensors is damaged \({whole - 1} bytes instead of {whole}\); "
                                           "run: dvc pull --force base@countdown-v1"):
        base_hash(tmp_path, "countdown-v1", "cpu")
    for size in (100, 7, 0):
        os.truncate(weights, size)
        assert "less than its header" in truncated(weights)
    weights.write_bytes((2).to_bytes(8, "little") + b"[]")
    assert "its header is none" in truncated(weights)
