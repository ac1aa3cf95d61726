"""Model cards, Croissant and RO-Crate, read back by the libraries that define them."""

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from common.config import ConfigError
from common.report.exports.cards import best_variant, method_variant, model_card
from common.report.exports.crate import export
from common.rows import COST_FIELDS, MetricRow, write_metrics

REPOSITORY = Path(__file__).resolve().parents[2]
CLAIMS = """paper: toy
family: tree_search_dpo
source: arXiv 0000.00000
defaults: {metric: success, at_least: 0.0, confidence: 0.95, tolerance: 0.05, panels: [shop-v1/test]}
claims:
  - {id: D2.1a, statement: a search helps, better: toy+mcts, worse: base, matched_on: none, why: it does}
  - {id: D2.1b, statement: training helps, better: toy, worse: base, matched_on: none, why: it does, metric: score}
"""


def row(variant="toy", seed=0, value=0.5, metric="success", panel="shop-v1/test"):
    cost = dict.fromkeys(COST_FIELDS, 1)
    return MetricRow("toy", panel.partition("/")[0], "cpu", "nano", variant, seed, panel, metric, value, 10, cost)


ROWS = [row(seed=seed, value=value) for seed, value in enumerate((0.25, 0.5, 0.75))] + [
    row("base", value=0.125), row(metric="score", value=0.5), row(metric="odd", value=1.0)]


def commit(root):
    when = {"GIT_AUTHOR_DATE": "2026-01-02T03:04:05Z", "GIT_COMMITTER_DATE": "2026-01-02T03:04:05Z"}
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=n", "-c", "user.email=e@e", "commit", "-qm", "m"]):
        subprocess.run(["git", "-C", str(root), *command], check=True, env={**os.environ, **when})


@pytest.fixture
def lab(tmp_path):
    """A project with one paper, its results and panels, committed."""
    if shutil.which("git") is None:
        pytest.skip("needs git: an export names the commit of the results")
    root = tmp_path / "lab"
    panels = {"test.jsonl": [{"id": f"shop-v1/{i}", "env": "shop-v1", "split": "test",
                              "data": {"price": [1, 2.5][i], "words": ["a", "b"], "options": {"size": "mini"}}}
                             for i in range(2)]}  # fmt: skip
    texts = {name: "".join(json.dumps(one) + "\n" for one in rows) for name, rows in panels.items()}
    manifest = {"env": "shop-v1", "files": {name: {"rows": 2, "sha256": hashlib.sha256(text.encode()).hexdigest()}
                                            for name, text in texts.items()}}  # fmt: skip
    files = {"papers/toy/claims.yaml": CLAIMS, "papers/toy/method.py": '"""m"""\n', "papers/toy/README.md": "# Toy\n",
             "results/claims/toy.json": '{"claims": [], "admission": []}\n', "LICENSE": "licence\n", "requirements.lock": "x==1\n",
             "params.yaml": "seeds: [0]\n", "docs/images/toy_ladder.png": "png",
             "data/shop-v1/manifest.json": json.dumps(manifest),
             "CITATION.cff": (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"), ".gitignore": "/data\n",
             **{f"data/shop-v1/{name}": text for name, text in texts.items()}}  # fmt: skip
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    write_metrics(root / "results" / "toy" / "metrics.jsonl", ROWS)
    commit(root)
    return root


def test_a_card_s_model_index_has_means_and_intervals(lab):
    from huggingface_hub import ModelCard

    card = ModelCard(model_card(lab, ROWS, variant="toy", env="shop-v1", license="Apache-2.0"))
    success, score = card.data.eval_results
    assert (success.metric_type, success.metric_value, success.dataset_name) == ("success", 0.5, "shop-v1/test")
    # three values, sd 0.25: 4.3027 · 0.25 / √3 = 0.6210
    assert success.metric_args == {"ci_low": -0.121034, "ci_high": 1.12103, "confidence": 0.95, "seeds": 3}
    assert (score.metric_type, score.metric_args) == ("score", {"confidence": 0.95, "seeds": 1})
    assert card.data.license == "apache-2.0"
    assert "| shop-v1/test | success | 0.5000 | [-0.1210, 1.1210] | 3 |" in card.text
    with pytest.raises(ConfigError, match='no row of "tow".*toy'):
        model_card(lab, ROWS, variant="tow", env="shop-v1", license="Apache-2.0")


def test_which_variant_a_card_is_of(lab):
    assert method_variant(lab, "toy", ROWS) == "toy"
    assert method_variant(lab, "toy", [row("base")]) == "toy"  # by the first claim, without its way of acting
    assert best_variant(ROWS, ["toy", "base", "absent"], "success") == "toy"
    assert best_variant(ROWS, ["base"], "success") == "base" and best_variant(ROWS, ["absent"], "success") is None


def test_croissant_reads_every_row_of_a_panel(lab, tmp_path):
    import mlcroissant

    export(lab, "toy", tmp_path / "out")
    folder = tmp_path / "out" / "data" / "shop-v1"
    found = mlcroissant.Dataset(jsonld=folder / "croissant.json")
    assert not found.metadata.ctx.issues.errors and not found.metadata.ctx.issues.warnings
    first, second = found.records("test")
    assert first == {"test/id": b"shop-v1/0", "test/env": b"shop-v1", "test/split": b"test", "test/data/price": 1.0,
                     "test/data/words": [b"a", b"b"]}  # fmt: skip
    assert second["test/data/price"] == 2.5  # not cut to a whole number, as the first row alone would have it
    (file,) = found.metadata.distribution
    assert file.sha256 == hashlib.sha256((folder / "test.jsonl").read_bytes()).hexdigest()


def test_the_crate_says_who_made_what_by_which_command(lab, tmp_path):
    from rocrate.rocrate import ROCrate

    out = export(lab, "toy", tmp_path / "out")
    crate = ROCrate(out)
    on_disk = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {entity.id for entity in crate.data_entities} == on_disk - {"ro-crate-metadata.json"}
    assert on_disk >= {
        "results/metrics.jsonl", "results/claims.json", "paper/method.py", "figures/toy_ladder.png",
        "models/shop-v1.md", "data/shop-v1/croissant.json"}  # fmt: skip
    (action,) = crate.get_by_type("CreateAction")
    assert action["name"] == "python -m common run --paper toy --profile cpu" and action["endTime"] == "2026-01-02T03:04:05+00:00"
    assert {"results/metrics.jsonl", "figures/toy_ladder.png"} <= {entity.id for entity in action["result"]}
    assert {"paper/method.py", "data/shop-v1/test.jsonl"} <= {entity.id for entity in action["object"]}
    head = subprocess.run(["git", "-C", str(lab), "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    assert action["instrument"]["softwareVersion"] == f"commit {head}"
    assert crate.root_dataset["license"].id == "https://spdx.org/licenses/Apache-2.0"
    assert crate.root_dataset["datePublished"].startswith("2026-01-02")
    assert "contributors" in crate.root_dataset["creator"][0]["name"]


def test_the_same_results_give_the_same_bytes_and_nothing_is_overwritten(lab, tmp_path):
    first, second = export(lab, "toy", tmp_path / "a"), export(lab, "toy", tmp_path / "b" / "deeper")
    names = {path.relative_to(first) for path in first.rglob("*") if path.is_file()}
    assert names == {path.relative_to(second) for path in second.rglob("*") if path.is_file()}
    assert [name for name in names if (first / name).read_bytes() != (second / name).read_bytes()] == []
    with pytest.raises(ConfigError, match="exists and an export never overwrites"):
        export(lab, "toy", first)


def test_what_is_missing_is_said_and_leaves_nothing_behind(lab, tmp_path):
    with pytest.raises(ConfigError, match="no results of other are published"):
        export(lab, "other", tmp_path / "out")
    shutil.rmtree(lab / "data")
    with pytest.raises(ConfigError, match="data/shop-v1 is absent.*make data"):
        export(lab, "toy", tmp_path / "out")
    write_metrics(lab / "results" / "new" / "metrics.jsonl", [row()])
    with pytest.raises(ConfigError, match="in no commit"):
        export(lab, "new", tmp_path / "out")
    assert list(tmp_path.iterdir()) == [lab]
