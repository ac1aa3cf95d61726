"""Tables say what the records say, and marked blocks are filled, checked and nothing else touched."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path

import pytest

from common.config.strict import ConfigError
from common.evaluate.admission import CHECK_FIELDS
from common.evaluate.claims import FAMILIES, RULE
from common.evaluate.publish import (
    claims_text, disagreements, insert_tables, judge_all, load_rows, claim_changes, read_claims, with_earlier, write_claims,
)
from common.evaluate.tables import (
    FAMILY_NAMES, LADDER_METRICS, admission_table, blocks, claims_table, counts, families_table, fill_blocks, ladder_table, verdict_text, verdicts_table, worlds_table,
)
from common.evaluate.verdicts import FIELDS, Judged
from common.rows import COST_FIELDS, MetricRow, write_metrics

ROOT = Path(__file__).resolve().parents[2]
PANEL = "countdown-v1/test"
CLAIMS = """
paper: demo
family: world_models
source: hand-made
looks: [5]
admission:
  - {id: headroom, says: "c solves some tasks|not all", value: c/success, at_least: 0.05, at_most: 0.95, claims: [D2]}
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
    write_claims(root / "results" / "claims", judge_all(root / "results", root / "papers"))
    return insert_tables(root)


def test_results_become_claims_json_and_tables(project):
    assert _publish(project) == [project / "README.md"]
    text = (project / "README.md").read_text()
    assert text.startswith("# Title\n\n<!-- claims:begin -->\n") and text.endswith("<!-- ladder:end -->\nend\n")
    assert "\nold\n" not in text and "text between" in text
    assert "1 supported, 0 contradicted, 0 no effect, 2 undecided, 0 not testable here" in text
    assert "+0.104 [+0.078, +0.130]" in text  # d = .10 .13 .09 .11 .09, sd .016733, two claims: ± 3.495406 · sd / √5 = .0262
    assert _publish(project) == [] and disagreements(project) == []


def test_claims_json_is_deterministic_and_complete(project):
    _publish(project)
    path = project / "results" / "claims" / "demo.json"
    before = path.read_bytes()
    rows = load_rows(project / "results")
    write_metrics(project / "results" / "demo" / "metrics.jsonl", rows[::-1])
    _publish(project)
    assert path.read_bytes() == before == claims_text(read_claims(path.parent)).encode()
    content = json.loads(before)
    assert set(content) == {"claims", "admission"} and [tuple(record) for record in content["claims"]] == [FIELDS] * 3
    assert [tuple(check) for check in content["admission"]] == [CHECK_FIELDS] * 2


def test_a_paper_may_keep_several_metrics_files(project):
    extra = project / "results" / "demo" / "metrics-smol.jsonl"
    write_metrics(extra, _rows("a", [0.9], scale="135M") + _rows("b", [0.8], scale="135M"))
    records = judge_all(project / "results", project / "papers").claims
    assert [r["scale"] for r in records] == ["135M"] * 2 + ["nano"] * 3
    assert records[0]["reason"] == "1 of 5 seeds: read at 5"


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
    for content, words in ((None, "does not exist"), ("{", "is not JSON"), ("[]", "list of claims"), ("{}", "list of claims"),
                           ('{"claims": [{"id": 1}], "admission": []}', "record 1 of claims"),
                           ('{"claims": [], "admission": [{}]}', "record 1 of admission")):
        if content is not None:
            path.write_text(content)
        with pytest.raises(ConfigError, match=words) as error:
            read_claims(tmp_path)
        assert "python -m common claims" in str(error.value)


def test_the_claims_table_is_well_formed(project):
    lines = claims_table(judge_all(project / "results", project / "papers")).splitlines()
    table = [line for line in lines[: lines.index("", 3)] if line.startswith("|")]
    assert "effect [simultaneous 95 % interval]" in table[0]
    assert len(table) == 2 + 3 and len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert "a beats b\\|c" in table[2] and "**supported**" in table[2] and "0.554 vs 0.450" in table[2]
    assert table[4].startswith("|  |  | shop-v1/test |") and "undecided (not run)" in table[4]
    checks = [line for line in lines[lines.index("", 3):] if line.startswith("|")]
    assert checks == ["| admission check | panel | value | mean [95 % interval] | n | must be | holds |", "|---|---|---|---|---|---|---|",
                      "| headroom: c solves some tasks\\|not all | countdown-v1/test | `c/success` | 0.446 [0.404, 0.488] | 5 | at least 0.05 and at most 0.95 | yes |",
                      "| headroom: c solves some tasks\\|not all | shop-v1/test | `c/success` | 0.300 | 1 | at least 0.05 and at most 0.95 | yes |"]
    assert claims_table(Judged()) == "No claim has been judged yet."


def test_the_counts_are_those_of_the_table(project):
    judged = judge_all(project / "results", project / "papers")
    line = counts(judged.claims)
    assert line.count("\n") == 0 and line.startswith("- ")
    assert line.removeprefix("- ").split(": ")[1] == claims_table(judged).splitlines()[0].split(": ")[1]


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


def test_worlds_are_told_by_the_first_answers_of_their_base_models():
    rows = _rows("base", [0.4, 0.6], panel="w-v1/test") + _rows("base", [0.5], panel="w-v1/test", metric="greedy_success")
    rows += _rows("start", [0.3, 0.5], panel="w-v1/test", metric="acc@1", paper="other")  # measured more: it is read
    rows += _rows("start", [0.9, 0.9], panel="w-v1/test", metric="pass@8", paper="other")
    rows += _rows("start", [0.45, 0.45], panel="w-v1/demos", metric="acc@1", paper="other")
    rows += _rows("start", [0.0, 0.0], panel="w-v1/test", paper="other")  # last answers are no matter
    rows += _rows("base", [0.2], panel="a-v1/test") + _rows("trained", [1.0], panel="b-v1/test") + _rows("base", [1.0], scale="Big-1B")
    # t(0.975, 1) · 0.1414 / √2 = 1.271
    assert worlds_table(rows).splitlines()[2:] == [
        "| `a-v1` | 1 | – | 0.200 | – | – |",
        "| `w-v1` | 2 | 0.450 | 0.400 ± 1.271 | – | 0.900 (8) |"]


def test_verdicts_at_a_glance(project):
    lines = verdicts_table(judge_all(project / "results", project / "papers").claims).splitlines()
    assert lines[2] == "| claim | countdown-v1/test | shop-v1/test |"
    assert lines[4] == "| D1 a beats b\\|c | **supported** +0.104 |  |"  # mean of .554 over mean of .450
    why = "interval contains 0 and reaches beyond ±0.03"
    assert lines[5].startswith(f"| D2 b beats c | undecided ({why}) +0.004 | not run |") and len(lines) == 6


def test_pretrained_models_are_told_in_short_and_apart(project):
    nano = judge_all(project / "results", project / "papers").claims
    assert [record["verdict"] for record in nano] == ["supported", "undecided", "undecided"]
    floor = {"reason": "headroom: base/success is 0.01, not at least 0.05", "verdict": "not testable here"}
    other = [record | {"scale": "Some-1B", "profile": "smol"} for record in nano]
    tiny = [record | floor | {"scale": "Tiny-9M", "profile": "smol"} for record in nano[:2]]
    single = [record | {"reason": "1 of 5 seeds: read at 5", "verdict": "undecided", "n_seeds": 1, "scale": "Once-2B"} for record in nano[:2]]
    none = [nano[0] | {"verdict": "no effect", "scale": "Zero-1B"}, nano[1] | floor | {"reason": "x: other", "scale": "Zero-1B"}]
    made = blocks(Judged(nano + other + tiny + single + none), [])
    assert made["verdicts"] == verdicts_table(nano)
    assert made["pretrained"].splitlines()[2:] == [
        "| [demo](papers/demo/README.md) | Zero-1B (`cpu`) | countdown-v1/test | 5 | **no effect** D1; not testable here (x: other) |",
        "| [demo](papers/demo/README.md) | Some-1B (`smol`) | countdown-v1/test | 5 | **supported** D1; undecided D2 |",
        "| [demo](papers/demo/README.md) | Some-1B (`smol`) | shop-v1/test | 0 | undecided D2 |",
        "| [demo](papers/demo/README.md) | Tiny-9M (`smol`) | countdown-v1/test | 5 | not testable here "
        "(headroom: base/success is 0.01, not at least 0.05) |"]
    assert "Once-2B" in made["looks"] and not any("Once-2B" in text for name, text in made.items() if name != "looks")


def test_one_seed_of_a_pretrained_model_is_a_look_and_its_rows_stand_with_it():
    made = blocks(Judged(), _rows("a", [0.5], scale="Once-2B") + _rows("b", [0.5]) + _rows("c", [0.5, 0.6], scale="Some-1B"))
    assert "`a`" in made["looks/ladder"] and "`b`" not in made["looks/ladder"] and "`c`" not in made["looks/ladder"]
    assert "`a`" not in made["ladder"] and "`b`" in made["ladder"] and "`c`" in made["ladder"]


def test_admission_checks_are_told_with_their_paper():
    check = {"paper": "demo", "id": "x", "says": "y", "panel": "p", "value": "a/b", "at_least": None, "at_most": 0.5, "profile": "cpu", "scale": "nano",
             "n_seeds": 0, "mean": None, "low": None, "high": None, "passed": None, "claims": ["D1"]}  # fmt: skip
    failed = check | {"n_seeds": 5, "mean": 0.75, "low": 0.7, "high": 0.8, "passed": False}
    assert admission_table([check, failed]).splitlines()[2:] == [
        "| [demo](papers/demo/README.md) | nano (`cpu`) | x: y | p | `a/b` | not measured | 0 | at most 0.5 | – |",
        "| [demo](papers/demo/README.md) | nano (`cpu`) | x: y | p | `a/b` | 0.750 [0.700, 0.800] | 5 | at most 0.5 | **no** |"]
    assert admission_table([]) == "No admission check has been made yet."


def test_a_failed_check_and_the_next_look_stand_in_the_tables(project):
    claims = project / "papers" / "demo" / "claims.yaml"
    claims.write_text(claims.read_text().replace("at_least: 0.05", "at_least: 0.45"))
    judged = judge_all(project / "results", project / "papers")
    assert "| not testable here (headroom) |" in claims_table(judged)  # c solves .446
    claims.write_text(claims.read_text().replace("looks: [5]", "looks: [5, 10]").replace("at_least: 0.45", "at_least: 0.05"))
    why = "interval contains 0 and reaches beyond ±0.03"
    assert f"| undecided ({why}) at 5; next and last look at 10 |" in claims_table(judge_all(project / "results", project / "papers"))


def test_no_published_verdict_is_left_undecided_without_its_reason():
    records = read_claims(ROOT / "results" / "claims").claims
    told = {verdict_text(record) for record in records if record["verdict"] == "undecided"}
    assert told and all(re.match(r"undecided \((interval contains|budgets differ|\d+ (of \d+ )?seeds|not run|no spread|\w+ not measured)", one) for one in told), told


# -- rules that change after results -------------------------------------------------------------------


def _edit(project, old, new):
    path = project / "papers" / "demo" / "claims.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_a_rule_changed_after_results_leaves_a_trace(project):
    _publish(project)
    folder = project / "results" / "claims"
    before = read_claims(folder).claims[0]
    assert before["earlier"] == []
    _edit(project, "matched_on: env_steps,", "matched_on: env_steps, at_least: 0.12,")
    _publish(project)
    first, second, unmeasured = read_claims(folder).claims
    assert first["verdict"] == "undecided" and second["n_seeds"] and not unmeasured["n_seeds"]
    (trace,) = first["earlier"]
    assert (trace["verdict"], trace["rule"]["at_least"], trace["rule_sha"], trace["n_seeds"]) == ("supported", 0.0, before["rule_sha"], 5)
    assert date.fromisoformat(trace["changed"]) <= date.today() and set(trace["rule"]) == set(RULE)
    assert len(second["earlier"]) == 1 and unmeasured["earlier"] == []  # what had not been measured may change freely
    said = f"*rule changed on {trace['changed']}*"
    assert f"undecided (interval contains 0.12 and reaches beyond ±0.03) at the last look {said} |" in claims_table(read_claims(folder)) and f"+0.104 {said} |" in verdicts_table([first])
    assert _publish(project) == [] and read_claims(folder).claims[0]["earlier"] == [trace] and disagreements(project) == []


def test_each_change_is_kept_and_words_are_none(project):
    _publish(project)
    for old, new in (("at_most: 0.95", "at_most: 0.9"), ("a beats b|c", "in other words"), ("looks: [5]", "looks: [5, 10]")):
        _edit(project, old, new)
        _publish(project)
    first, second, _ = read_claims(project / "results" / "claims").claims
    assert [one["rule"]["looks"] for one in first["earlier"]] == [[5]]  # the check is not one of D1's
    assert [one["rule"]["admission"][0] for one in second["earlier"]] == [
        f"c/success on countdown-v1/test at least 0.05 and at most {most}" for most in ("0.95", "0.9")]


def test_the_date_of_a_change_is_the_day_it_was_judged():
    record = dict.fromkeys(FIELDS) | {"paper": "p", "id": "D1", "n_seeds": 5, "rule_sha": "old", "verdict": "supported", "earlier": []}
    changed = with_earlier(Judged([record | {"rule_sha": "new"}]), [record], date(2027, 1, 2)).claims[0]
    assert [one["changed"] for one in changed["earlier"]] == ["2027-01-02"]
    assert with_earlier(Judged([changed]), [changed], date(2028, 1, 1)).claims[0] == changed
    assert with_earlier(Judged([record]), []).claims[0]["earlier"] == []


@pytest.mark.parametrize("content", ["[]", "{", '{"claims": [{"paper": "demo"}], "admission": []}'])
def test_records_of_another_format_hold_no_history(project, content):
    (project / "results" / "claims").mkdir()
    (project / "results" / "claims" / "demo.json").write_text(content)
    _publish(project)
    assert all(record["earlier"] == [] for record in read_claims(project / "results" / "claims").claims)


def test_blocks_exist_before_any_result():
    assert {k: v for k, v in blocks(Judged(), []).items() if k != "families" and not k.startswith("looks")} == {"verdicts": "No claim has been judged yet.", "claims": "No claim has been judged yet.",
                              "admission": "No admission check has been made yet.",
                              "worlds": "No base model has been measured yet.",
                              "pretrained": "No pretrained model has been judged yet.",
                              "ladder": "\n\n".join(f"No {m} has been measured yet."
                                                    for m in LADDER_METRICS)}
    assert blocks(Judged(), [], ["new"])["claims/new"] == "No claim has been judged yet."


def test_families_count_the_verdicts_of_models_trained_here():
    records = [{"family": "multi_agent", "paper": paper, "scale": scale, "verdict": verdict} for paper, scale, verdict in (
        ("b", "nano", "supported"), ("a", "nano", "undecided"), ("a", "nano", "no effect"), ("c", "Some-1B", "supported"))]
    lines = families_table(records).splitlines()
    assert lines[4] == ("| multi-agent training | [a](papers/a/README.md), [b](papers/b/README.md) | 1 | 0 | 1 | 1 | 0 | "
                        "[multi_agent](docs/gallery/multi_agent.ipynb) |")
    assert lines[5] == "| world models | – | 0 | 0 | 0 | 0 | 0 | [world_models](docs/gallery/world_models.ipynb) |"
    assert set(FAMILY_NAMES) == set(FAMILIES)


def test_links_of_tables_lead_from_the_document(project):
    (project / "docs").mkdir(exist_ok=True)
    (project / "docs" / "results.md").write_text("<!-- families:begin -->\n<!-- families:end -->\n")
    _publish(project)
    assert "](../docs/gallery/multi_agent.ipynb)" in (project / "docs" / "results.md").read_text()


def test_a_game_s_ladder_is_of_returns_and_ranks():
    rows = _rows("a", [2.0, 4.0], metric="return", paper="game") + _rows("a", [7.0], metric="rank", paper="game")
    made = blocks(Judged(), rows + _rows("a", [0.5]), ["game", "new"])
    assert "return, mean" in made["ladder/game"] and "rank, mean" in made["ladder/game"]
    assert "success" not in made["ladder/game"] and "return" not in made["ladder/demo"] + made["ladder/new"]


def test_published_documents_agree_with_the_results():
    assert disagreements(ROOT) == []


def test_claims_that_moved_are_named_verdicts_first():
    def record(name: str, verdict: str, effect: float | None) -> dict:
        return {"paper": "toy", "id": name, "panel": "toy-v1/test", "profile": "cpu", "verdict": verdict, "effect": effect}

    before = [record("D1", "supported", 0.1), record("D2", "undecided", 0.01), record("D3", "supported", 0.2),
              record("D4", "supported", 0.3)]  # fmt: skip
    after = [record("D1", "supported", 0.2), record("D2", "contradicted", -0.1), record("D3", "supported", 0.2),
             record("D5", "supported", 0.3)]  # fmt: skip
    assert claim_changes(before, after) == ["toy/D2@toy-v1/test: undecided → contradicted, effect +0.01 → -0.1",
                                            "toy/D1@toy-v1/test: still supported, effect +0.1 → +0.2"]
    assert claim_changes(before, before) == [] and claim_changes([], after) == []
    assert claim_changes([record("D1", "undecided", None)], [record("D1", "supported", 0.1)]) == [
        "toy/D1@toy-v1/test: undecided → supported, effect none → +0.1"]
