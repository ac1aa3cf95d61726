"""Which table holds published rows, and what it says of the base model behind it."""

import json
from pathlib import Path

import pytest

from common.rows import COST_FIELDS, MetricRow, write_metrics
from common.sweep import inputs
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
