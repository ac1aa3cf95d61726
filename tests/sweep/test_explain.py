"""From a number back to its unit, and recomputing it: the messages before and after code, tables and store change."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from common.config import ConfigError
from common.evaluate.publish import read_claims
from common.evaluate.verdicts import Judged
from common.rows import MetricRow, cost_of, read_metrics
from common.sweep import explain as explaining
from common.sweep.explain import _found, _mlflow, _pipeline
from common.sweep.inputs import table_of
from common.sweep.verify import Finding, compare, conclusion
from common.types import Cost

CLAIMS = """paper: toy
family: tree_search_dpo
source: nobody's
claims:
  - id: D0.1
    statement: the method beats its half
    better: method
    worse: half
    metric: total
    panels: [toy-v1/test]
    matched_on: updates
    why: they are one run
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory, new_lab, run_in):
    """A laboratory with four seeds of two variants, their table and their verdict."""
    lab = new_lab(tmp_path_factory.mktemp("explain") / "lab")
    method = lab / "papers/toy/method.py"
    text = method.read_text()
    text = text.replace("    return [MetricRow(", '    both = {"method": total, "half": total / 2}\n    return [MetricRow(')
    text = text.replace('variant="method"', "variant=name").replace("value=total", "value=value")
    method.write_text(text.replace("cost=cost)]", "cost=cost) for name, value in both.items()]"))
    (lab / "papers/toy/claims.yaml").write_text(CLAIMS)
    (lab / "params.yaml").write_text((lab / "params.yaml").read_text().replace("[0, 1]", "[0, 1, 2, 3]"))
    for command in (["run", "--paper", "toy"], ["claims"]):
        done = run_in(lab, *command)
        assert done.returncode == 0, done.stdout
    return lab


@pytest.fixture
def explained(run_in):
    """``explained(lab, target)``: what the command says; with an exit code other than 0, where that is expected."""
    def ask(lab, target: str, code: int = 0) -> str:
        done = run_in(lab, "explain", target)
        assert done.returncode == code, done.stdout
        return done.stdout

    return ask


@pytest.fixture
def copied(published, tmp_path):
    return shutil.copytree(published, tmp_path / "lab", symlinks=True)


@pytest.mark.parametrize(("target", "number"), [
    ("score/score/acc@1", ("score", "score", "acc@1", "")),
    ("score/score/acc@1@arithmetic-v1/test", ("score", "score", "acc@1", "arithmetic-v1/test")),
    ("agent_q/agent_q@theta=0.1/success", ("agent_q", "agent_q@theta=0.1", "success", "")),
    ("agent_q/agent_q@theta=0.1/success@shop-v1/test", ("agent_q", "agent_q@theta=0.1", "success", "shop-v1/test")),
    ("malt/malt+vote/success", ("malt", "malt+vote", "success", "")),
    ("agent_q/D2.4b", None), ("agent_q/D2.4b@shop-v1/test", None), ("agent_q", None), ("a/b/c/d", None), ("a/b/c/d/e", None),
])  # fmt: skip
def test_names_with_an_at_sign_are_understood(target, number):
    assert explaining._asked_number(target) == number


def test_a_variant_without_a_metric_gets_the_metrics_to_choose_from(published, explained):
    assert '"toy/method" is a variant; add the metric: toy/method/total, or another of total' in explained(published, "toy/method", 2)


def test_a_claim_is_traced_to_units_runs_and_notebooks(published, explained):
    text = explained(published, "toy/D0.1")
    assert "claim     toy/D0.1 on toy-v1/test: the method beats its half" in text and "STALE" not in text
    assert text.count("computed here, unit ") == 4 and "copied" not in text
    units = sorted(path.parent.name for path in (published / "runs/toy").glob("*/DONE"))
    for key in units:
        assert f"unit {key}" in text and f"executed notebook runs/toy/{key}/notebook.ipynb" in text
    assert text.count("MLflow run ") == 4 and text.count(" FINISHED") == 4
    [record] = json.loads((published / "results/claims/toy.json").read_text())["claims"]
    assert f"method {record['value_better']:.6g}, half {record['value_worse']:.6g}" in text


def test_a_claim_is_traced_at_the_profile_asked_for(tmp_path, monkeypatch):
    records = [{"paper": "toy", "id": name, "panel": "toy-v1/test", "profile": profile}
               for name, profile in (("D0.1", "cpu"), ("D0.1", "gpu"), ("D0.2", "gpu"))]  # fmt: skip
    monkeypatch.setattr(explaining, "read_claims", lambda folder: Judged(records))
    monkeypatch.setattr(explaining, "_claim", lambda _, record: [f"{record['id']} {record['profile']}"])
    assert explaining.explain(tmp_path, "toy/D0.1", "cpu") == ["D0.1 cpu"]
    assert explaining.explain(tmp_path, "toy/D0.1", "gpu") == ["D0.1 gpu"]
    assert explaining.explain(tmp_path, "toy/D0.2", "cpu") == ["D0.2 gpu"]  # where there is no other


def test_a_number_of_a_table_is_traced_too(published, explained):
    text = explained(published, "toy/half/total")
    rows = [json.loads(line) for line in (published / "results/toy/metrics.jsonl").read_text().splitlines()]
    values = [row["value"] for row in rows if row["variant"] == "half"]
    assert f"number    total of toy/half on toy-v1/test: mean {sum(values) / 4:.6g} over 4 seeds" in text
    assert text.count("computed here, unit ") == 4 and "method" not in text.split("again")[0]
    assert explained(published, "toy/half/total@toy-v1/test") == text


def test_other_code_is_named_and_a_fresh_clone_says_copied(copied, explained):
    method = copied / "papers/toy/method.py"
    method.write_text(method.read_text().replace("% 1000", "% 999"))
    text = explained(copied, "toy/D0.1@toy-v1/test")
    assert text.count("by other code or inputs") == 4
    assert text.count("differs in code of the paper's own folder") == 4 and "differs in data" not in text
    shutil.rmtree(copied / "runs")
    text = explained(copied, "toy/D0.1")
    assert text.count("copied from git") == 4 and "MLflow" not in text


def test_code_that_no_number_depends_on_leaves_tables_attested_and_units_finished(copied, explained, run_in):
    strict = copied / "common/config/strict.py"
    strict.write_text(strict.read_text() + "\nSPARE = 1\n")
    text = explained(copied, "toy/D0.1")
    assert "source    attested: computed by other code that behaves the same (only code that no number depends on differs)" in text
    assert text.count("computed here by other code that behaves the same, unit ") == 4 and "STALE" not in text
    printed = run_in(copied, "claims").stdout
    assert "attested, computed by other code that behaves the same: tables of toy;" in printed and "stale" not in printed
    assert "4 units, all finished: nothing to run" in run_in(copied, "run", "--paper", "toy", "--dry-run").stdout


def test_a_changed_rule_is_out_of_date(copied, explained, run_in):
    claims = copied / "papers/toy/claims.yaml"
    claims.write_text(claims.read_text().replace("matched_on: updates", "matched_on: samples"))
    assert "OUT OF DATE: papers/toy/claims.yaml has another rule now" in explained(copied, "toy/D0.1")
    run_in(copied, "claims")
    text = explained(copied, "toy/D0.1")
    assert "OUT OF DATE" not in text and "rule changed on 20" in text
    assert "before: undecided at 4 seeds by better method; worse half; metric total;" in text and "matched_on updates;" in text


@pytest.mark.parametrize(("target", "message"), [
    ("toy/D0.2", 'claim: "toy/D0.2" has no verdict; did you mean "toy/D0.1"'),
    ("toy/D0.1@toy-v1/tset", 'no verdict on "toy-v1/tset"; did you mean "toy-v1/test"'),
    ("toy/hafl/total", 'variant: "hafl" is not in the rows of toy; did you mean "half"'),
    ("toy/half/totl", 'metric: "totl" is not in the rows of toy; did you mean "total"'),
    ("tooy/half/total", 'paper: "tooy" has no rows in results/'),
])  # fmt: skip
def test_a_target_that_is_not_there(published, explained, target, message):
    printed = explained(published, target, code=2)
    assert message in printed and len(printed.splitlines()) == 1


def test_verify_recomputes_and_notices_a_changed_table(copied, run_in):
    done = run_in(copied, "verify", "--units", "2", "--sample", "1")
    assert done.returncode == 0 and done.stdout.count("all 2 values identical") == 2, done.stdout
    assert "another processor" not in done.stdout and done.stdout.endswith("verify: found: every value identical; next: nothing\n")
    table = copied / "results/toy/metrics.jsonl"
    lines = [json.loads(line) for line in table.read_text().splitlines()]
    table.write_text("".join(json.dumps(line | {"value": 5.0}) + "\n" for line in lines))
    done = run_in(copied, "verify", "--units", "1", "--sample", "1")
    assert done.returncode == 1 and "2 outside" in done.stdout, done.stdout
    assert "verify: found: 1 of 1 units have more values outside" in done.stdout and "dvc status run@toy" in done.stdout
    assert not list((copied / "runs").glob("verify.*"))


def row(seed: int, value: float, variant: str = "a") -> MetricRow:
    return MetricRow(paper="p", env="toy-v1", profile="cpu", scale="nano", variant=variant, seed=seed,
                     panel="toy-v1/test", metric="m", value=value, n=1, cost=cost_of(Cost()))  # fmt: skip


def test_rows_are_identical_inside_outside_or_not_comparable():
    published = [row(seed, float(seed)) for seed in (1, 2, 3)]
    assert (compare("u", [row(2, 2.0)], published).identical, compare("u", [row(2, 6.9)], published).inside) == (1, 1)
    out = compare("u", [row(2, 7.1)], published)
    assert not out.ok and "published 2" in out.outside[0]
    constant = [row(seed, 0.4) for seed in (1, 2, 3)]  # the base model's, say: no seed moves it, but rounding does
    assert (compare("u", [row(2, 0.40007)], constant).inside, len(compare("u", [row(2, 0.4001)], constant).outside)) == (1, 1)
    with pytest.raises(ConfigError, match="1 rows are in one table only"):
        compare("u", [row(2, 2.0), row(2, 1.0, "b")], published)


def test_a_table_names_its_processor_and_verify_compares_it_first(copied, explained, run_in):
    source = copied / "results/toy/source.json"
    content = json.loads(source.read_text())
    entry = content["metrics.jsonl"]["cpu"]["toy-v1"]
    assert [set(one) - {"PyTorch", "native.c"} for one in entry["processors"]] == [{"model", "limits"}]  # all units were computed here
    assert f"processor {entry['processors'][0]['model']}" in explained(copied, "toy/D0.1")
    entry["processors"] = [{"model": "Z80", "limits": ""}]
    source.write_text(json.dumps(content))
    first, second, last = run_in(copied, "verify", "--units", "1", "--sample", "1").stdout.splitlines()[1:]
    assert "another processor: compared by the prediction interval (published on Z80; recomputed on " in first
    assert "all 2 values identical" in second and last == "verify: found: every value identical; next: nothing"


def finding(value: float, elsewhere: bool = False, other_base: bool = False) -> Finding:
    return Finding("p", compare("u", [row(2, value)], [row(seed, float(seed)) for seed in (1, 2, 3)]), elsewhere, other_base)


def test_the_last_sentence_is_about_the_worst_that_was_found():
    same, close, far = finding(2.0), finding(2.5), finding(99.0)
    assert conclusion([same]) == "found: every value identical; next: nothing"
    assert "as another processor should" in conclusion([same, finding(2.5, elsewhere=True)])
    assert "though the processor is the published one" in conclusion([close, finding(2.5, elsewhere=True)])
    assert "dvc repro run@p" in conclusion([close, finding(99.0, other_base=True)])
    assert conclusion([finding(99.0, other_base=True), far, same, far]).startswith("found: 2 of 4 units have more values outside")
    assert (close.good, far.good, finding(99.0, other_base=True).good) == (True, False, None)


def test_runs_are_looked_for_in_the_store_that_is_named(tmp_path, monkeypatch, capsys):
    from common.track.mlflow_store import local_uri
    from tests.track.test_mlflow_log import SOURCE, UNIT, Tracker

    with Tracker(tmp_path / "elsewhere") as tracker:
        run = tracker.unit_run(tracker.sweep_run("ladder", SOURCE, {}), UNIT)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert _mlflow(tmp_path, [UNIT.key]) == {}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", local_uri(tmp_path / "elsewhere"))
    assert _mlflow(tmp_path, [UNIT.key]) == {UNIT.key: [(run.run_id, "KILLED", "abc123", True)]}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql+nodriver://nowhere/lab")
    assert _mlflow(tmp_path, [UNIT.key]) == {} and "does not answer; its runs are left out" in capsys.readouterr().err


def test_a_clone_without_a_run_store_knows_whether_its_tables_are_stale(copied, explained, run_in):
    """What git holds is enough: tables with source.json, code, parameters, panels, lock."""
    shutil.rmtree(copied / "runs")
    text = explained(copied, "toy/D0.1")
    assert "source    computed by this code, from these parameters" in text and text.count("copied from git") == 4
    assert "stale" not in run_in(copied, "claims").stdout

    method = copied / "papers/toy/method.py"
    method.write_text(method.read_text() + "\nUNUSED = 1\n")
    assert "source    STALE: other than when it was computed: code of the paper's own folder\n" in explained(copied, "toy/D0.1")
    params = copied / "papers/toy/params.yaml"
    params.write_text(params.read_text().replace("pause: {default: 0.0", "pause: {default: 0.1"))
    printed = run_in(copied, "claims").stdout
    assert ("stale: toy on toy-v1 was computed from other parameters, code of the paper's own folder; to compute it anew: "
            "dvc repro run@toy") in printed

    (copied / "results/toy/source.json").unlink()
    assert "source    of unknown origin" in explained(copied, "toy/D0.1")
    assert "stale" not in run_in(copied, "claims").stdout


def test_the_lock_of_this_project_can_be_read():
    """DVC writes numbers in it as the strict reader of files that people write refuses them."""
    root = Path(__file__).parents[2]
    assert "1e-06" in (root / "dvc.lock").read_text(encoding="utf-8")
    assert _pipeline(root, root / "results/score/metrics.jsonl") == "the file that run@score wrote, by dvc.lock"


def test_every_published_verdict_can_be_told():
    records = read_claims(Path(__file__).parents[2] / "results" / "claims").claims
    results = Path(__file__).parents[2] / "results"
    rows = {path: {(row.env, row.profile) for row in read_metrics(path)} for path in results.glob("*/metrics*.jsonl")}
    for record in records:
        assert re.fullmatch(r"effect [+-]\S+( \[\S+, \S+\], one of \d+ read together)?, \d+ seeds?|no effect was measured", _found(record))
        place = record["env"], record["profile"]
        assert place in rows[table_of(results, record["paper"], *place)]
    bare = dict.fromkeys(records[0], None) | {"n_seeds": 1}
    assert _found(bare) == "no effect was measured"
    assert _found(bare | {"effect": 0.5}) == "effect +0.5, 1 seed"
