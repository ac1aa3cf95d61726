"""Tables say what the records say, and marked blocks are filled, checked and nothing else touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.config.strict import ConfigError
from common.evaluate.claims import FAMILIES, FIELDS
from common.evaluate.publish import (
    claims_text, disagreements, insert_tables, judge_all, load_rows, claim_changes, read_claims, write_claims,
)
from common.evaluate.tables import (
    FAMILY_NAMES, LADDER_METRICS, blocks, claims_table, counts, families_table, fill_blocks, ladder_table, verdicts_table,
)
from common.rows import COST_FIELDS, MetricRow, write_metrics

ROOT = Path(__file__).resolve().parents[2]
PANEL = "countdown-v1/test"
CLAIMS = """
paper: demo
family: world_models
source: hand-made
defaults: {metric: success, panels: [countdown-v1/test], matched_on: env_steps, why: equal by construction}
claims:
  - {id: D1, statement: "a beats b|c", better: a, worse: b}
  - {id: D2, statement: b beats c, better: b, worse: c, panels: [countdown-v1/test, shop-v1/test]}
"""


def _rows(variant, values, *, metric="success", panel=PANEL, scale="nano", paper="demo"):
    cost = dict.fromkeys(COST_FIELDS, 10)
    return [MetricRow(paper, panel.split("/")[0], "cpu", scale, variant, seed, panel, metric, value, 50, cost)
            for seed, value in enumerate(values)]


def _demo_rows():
    return (_rows("a", [0.50, 0.56, 0.61, 0.52, 0.58]) + _rows("b", [0.40, 0.43, 0.52, 0.41, 0.49])
            + _rows("c", [0.41, 0.43, 0.50, 0.45, 0.44]) + _rows("c", [0.3], panel="shop-v1/test"))


@pytest.fixture
def project(tmp_path):
    """A root with one paper, its results, and a README with marks."""
    (tmp_path / "papers" / "demo").mkdir(parents=True)
    (tmp_path / "papers" / "demo" / "claims.yaml").write_text(CLAIMS)
    write_metrics(tmp_path / "results" / "demo" / "metrics.jsonl", _demo_rows())
    (tmp_path / "README.md").write_text(
        "# Title\n\n<!-- claims:begin -->\nold\n<!-- claims:end -->\n\ntext between\n\n"
        "<!-- ladder:begin -->\n<!-- ladder:end -->\nend\n")
    return tmp_path


def _publish(root):
    records = judge_all(root / "results", root / "papers")
    write_claims(root / "results" / "claims", records)
    return insert_tables(root)


def test_results_become_claims_json_and_tables(project):
    assert _publish(project) == [project / "README.md"]
    text = (project / "README.md").read_text()
    assert text.startswith("# Title\n\n<!-- claims:begin -->\n") and text.endswith("<!-- ladder:end -->\nend\n")
    assert "\nold\n" not in text and "text between" in text
    assert "1 supported, 0 contradicted, 2 inconclusive" in text
    assert "+0.104 [+0.083, +0.125]" in text  # d = .10 .13 .09 .11 .09, sd .016733, ± 2.776445 · sd / √5 = .0208
    assert _publish(project) == [] and disagreements(project) == []


def test_claims_json_is_deterministic_and_complete(project):
    _publish(project)
    path = project / "results" / "claims" / "demo.json"
    before = path.read_bytes()
    rows = load_rows(project / "results")
    write_metrics(project / "results" / "demo" / "metrics.jsonl", rows[::-1])
    _publish(project)
    assert path.read_bytes() == before == claims_text(read_claims(path.parent)).encode()
    assert [tuple(record) for record in json.loads(before)] == [FIELDS] * 3


def test_a_paper_may_keep_several_metrics_files(project):
    extra = project / "results" / "demo" / "metrics-smol.jsonl"
    write_metrics(extra, _rows("a", [0.9], scale="135M") + _rows("b", [0.8], scale="135M"))
    records = judge_all(project / "results", project / "papers")
    assert [r["scale"] for r in records] == ["135M"] * 2 + ["nano"] * 3
    assert records[0]["reason"].startswith("one seed:")


@pytest.mark.parametrize("what", ["readme", "rows", "rule", "claims"])
def test_whatever_no_longer_agrees_is_named(project, what):
    _publish(project)
    if what == "readme":
        path = project / "README.md"
        path.write_text(path.read_text().replace("+0.104", "+0.204"))
    elif what == "rows":
        write_metrics(project / "results" / "demo" / "metrics.jsonl", _demo_rows()[:-1])
    elif what == "rule":
        path = project / "papers" / "demo" / "claims.yaml"
        path.write_text(path.read_text().replace("matched_on: env_steps", "matched_on: updates"))
    else:
        path = project / "results" / "claims" / "demo.json"
        path.write_text(path.read_text().replace('"verdict": "supported"', '"verdict": "contradicted"'))
    found = disagreements(project)
    expected = {"readme": ["README.md"], "rows": ["results/claims/", "README.md"],
                "rule": ["results/claims/"], "claims": ["results/claims/", "README.md"]}[what]
    assert [sentence.split()[0] for sentence in found] == expected


def test_other_documents_and_single_papers(project):
    (project / "docs").mkdir()
    (project / "docs" / "x.md").write_text("<!-- claims/demo:begin -->\n<!-- claims/demo:end -->\n")
    (project / "docs" / "plain.md").write_text("Write `<!-- claims:begin -->` and `<!-- claims:end -->` in a line.\n")
    assert {path.name for path in _publish(project)} == {"README.md", "x.md"}
    assert "| D1 a beats" in (project / "docs" / "x.md").read_text()


@pytest.mark.parametrize("text", ["<!-- claims:begin -->\n", "<!-- claims:end -->\n<!-- claims:begin -->\n",
                                  "<!-- claims:begin -->\n<!-- ladder:end -->\n"])
def test_marks_without_partner_are_refused(text):
    with pytest.raises(ConfigError, match="README.md: the mark <!-- claims:.* has no partner") as error:
        fill_blocks(text, {"claims": "", "ladder": ""}, "README.md")
    assert "\n" not in str(error.value)


def test_unknown_blocks_are_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match='no table is called "claim"; did you mean "claims"'):
        fill_blocks("<!-- claim:begin -->\n<!-- claim:end -->\n", {"claims": "", "ladder": ""}, "README.md")


def test_missing_and_damaged_claims_files(tmp_path):
    path = tmp_path / "demo.json"
    for content, words in ((None, "does not exist"), ("{", "is not JSON"), ("{}", "list of records"),
                           ('[{"id": 1}]', "record 1")):
        if content is not None:
            path.write_text(content)
        with pytest.raises(ConfigError, match=words) as error:
            read_claims(tmp_path)
        assert "python -m common claims" in str(error.value)


def test_the_claims_table_is_well_formed(project):
    lines = claims_table(judge_all(project / "results", project / "papers")).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert "effect [95 % interval]" in table[0]
    assert len(table) == 2 + 3 and len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert "a beats b\\|c" in table[2] and "**supported**" in table[2] and "0.554 vs 0.450" in table[2]
    assert table[4].startswith("|  |  | shop-v1/test |") and "inconclusive (not run)" in table[4]
    assert claims_table([]) == "No claim has been judged yet."


def test_the_counts_are_those_of_the_table(project):
    records = judge_all(project / "results", project / "papers")
    line = counts(records)
    assert line.count("\n") == 0 and line.startswith("- ")
    assert line.removeprefix("- ").split(": ")[1] == claims_table(records).splitlines()[0].split(": ")[1]


def test_the_ladder_by_hand():
    rows = _rows("high", [1, 2, 3, 4, 5]) + _rows("low", [0.5, 0.5, 0.5]) + _rows("single", [0.7])
    rows += _rows("low", [0.25], panel="shop-v1/test") + _rows("low", [9.0], metric="score")
    lines = ladder_table(rows).splitlines()
    assert lines[2] == "| variant | countdown-v1/test (n = 5) | shop-v1/test (n = 1) |"
    # t(0.975, 4) · √2.5 / √5 = 1.963; equal values and single seeds stand without an interval.
    assert lines[4:] == ["| `low` | 0.500 (n = 3) | 0.250 |", "| `single` | 0.700 (n = 1) | – |",
                         "| `high` | 3.000 ± 1.963 | – |"]
    first = ladder_table(rows, order=("high", "absent")).splitlines()[4]
    assert first.startswith("| `high`")
    assert ladder_table([], metric="score") == "No score has been measured yet."


def test_verdicts_at_a_glance(project):
    lines = verdicts_table(judge_all(project / "results", project / "papers")).splitlines()
    assert lines[2] == "| claim | countdown-v1/test | shop-v1/test |"
    assert lines[4] == "| D1 a beats b\\|c | **supported** +0.104 |  |"  # mean of .554 over mean of .450
    assert lines[5].startswith("| D2 b beats c | inconclusive +0.004 | not run |") and len(lines) == 6


def test_pretrained_models_are_told_in_short_and_apart(project):
    nano = judge_all(project / "results", project / "papers")
    assert [record["verdict"] for record in nano] == ["supported", "inconclusive", "inconclusive"]
    floor = {"reason": "floor: success of b is 0.01, below 0.05", "verdict": "inconclusive"}
    other = [record | {"scale": "Some-1B", "profile": "smol"} for record in nano]
    tiny = [record | floor | {"scale": "Tiny-9M", "profile": "smol"} for record in nano[:2]]
    single = [record | {"reason": "one seed: no interval", "verdict": "inconclusive", "n_seeds": 1, "scale": "Once-2B"} for record in nano[:2]]
    made = blocks(nano + other + tiny + single, [])
    assert made["verdicts"] == verdicts_table(nano)
    assert made["pretrained"].splitlines()[2:] == [
        "| [demo](papers/demo/README.md) | Once-2B (`cpu`) | countdown-v1/test | 1 | one seed: no interval |",
        "| [demo](papers/demo/README.md) | Some-1B (`smol`) | countdown-v1/test | 5 | **supported** D1; inconclusive D2 |",
        "| [demo](papers/demo/README.md) | Some-1B (`smol`) | shop-v1/test | 0 | inconclusive D2 |",
        "| [demo](papers/demo/README.md) | Tiny-9M (`smol`) | countdown-v1/test | 5 | floor: success of b is 0.01, below 0.05 |"]


def test_blocks_exist_before_any_result():
    assert {k: v for k, v in blocks([], []).items() if k != "families"} == {"verdicts": "No claim has been judged yet.", "claims": "No claim has been judged yet.",
                              "pretrained": "No pretrained model has been judged yet.",
                              "ladder": "\n\n".join(f"No {m} has been measured yet."
                                                    for m in LADDER_METRICS)}
    assert blocks([], [], ["new"])["claims/new"] == "No claim has been judged yet."


def test_families_count_the_verdicts_of_models_trained_here():
    records = [{"family": "multi_agent", "paper": paper, "scale": scale, "verdict": verdict} for paper, scale, verdict in (
        ("b", "nano", "supported"), ("a", "nano", "inconclusive"), ("a", "nano", "inconclusive"), ("c", "Some-1B", "supported"))]
    lines = families_table(records).splitlines()
    assert lines[4] == ("| multi-agent training | [a](papers/a/README.md), [b](papers/b/README.md) | 1 | 0 | 2 | "
                        "[multi_agent](notebooks/multi_agent.ipynb) |")
    assert lines[5] == "| world models | – | 0 | 0 | 0 | [world_models](notebooks/world_models.ipynb) |"
    assert set(FAMILY_NAMES) == set(FAMILIES)


def test_links_of_tables_lead_from_the_document(project):
    (project / "docs").mkdir(exist_ok=True)
    (project / "docs" / "results.md").write_text("<!-- families:begin -->\n<!-- families:end -->\n")
    _publish(project)
    assert "](../notebooks/multi_agent.ipynb)" in (project / "docs" / "results.md").read_text()


def test_a_game_s_ladder_is_of_returns_and_ranks():
    rows = _rows("a", [2.0, 4.0], metric="return", paper="game") + _rows("a", [7.0], metric="rank", paper="game")
    made = blocks([], rows + _rows("a", [0.5]), ["game", "new"])
    assert "return, mean" in made["ladder/game"] and "rank, mean" in made["ladder/game"]
    assert "success" not in made["ladder/game"] and "return" not in made["ladder/demo"] + made["ladder/new"]


def test_published_documents_agree_with_the_results():
    assert disagreements(ROOT) == []


def test_claims_that_moved_are_named_verdicts_first():
    def record(name: str, verdict: str, effect: float | None) -> dict:
        return {"paper": "toy", "id": name, "panel": "toy-v1/test", "profile": "cpu", "verdict": verdict, "effect": effect}

    before = [record("D1", "supported", 0.1), record("D2", "inconclusive", 0.01), record("D3", "supported", 0.2),
              record("D4", "supported", 0.3)]  # fmt: skip
    after = [record("D1", "supported", 0.2), record("D2", "contradicted", -0.1), record("D3", "supported", 0.2),
             record("D5", "supported", 0.3)]  # fmt: skip
    assert claim_changes(before, after) == ["toy/D2@toy-v1/test: inconclusive → contradicted, effect +0.01 → -0.1",
                                            "toy/D1@toy-v1/test: still supported, effect +0.1 → +0.2"]
    assert claim_changes(before, before) == [] and claim_changes([], after) == []
    assert claim_changes([record("D1", "inconclusive", None)], [record("D1", "supported", 0.1)]) == [
        "toy/D1@toy-v1/test: inconclusive → supported, effect none → +0.1"]
