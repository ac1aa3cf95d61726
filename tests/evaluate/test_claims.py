"""Claims files are read strictly, and verdicts follow the rule in the module's docstring."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
import yaml

from common.config.strict import ConfigError
from common.evaluate.claims import FIELDS, judge, load_claims
from common.evaluate.stats import paired, seeds_needed
from common.rows import COST_FIELDS, MetricRow

ROOT = Path(__file__).resolve().parents[2]
COUNTDOWN = "countdown-v1/test"


def _file(tmp_path, *claims, **changes):
    """A claims file of the paper "demo"; each claim is a dict over defaults that are valid."""
    entries = [{"id": f"D{i}", "statement": "a beats b", "better": "a", "worse": "b", **claim}
               for i, claim in enumerate(claims)]
    content = {
        "paper": "demo", "family": "world_models", "source": "hand-made",
        "defaults": {"metric": "success", "panels": [COUNTDOWN], "matched_on": "env_steps", "why": "equal"},
        "claims": entries, **changes,
    }  # fmt: skip
    path = tmp_path / "demo" / "claims.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump({name: value for name, value in content.items() if value is not None}))
    return path


def _rows(variant, values, *, metric="success", panel=COUNTDOWN, profile="cpu", scale="nano", first_seed=0, **cost):
    cost = {name: cost.get(name, 100) for name in COST_FIELDS}
    env = panel.split("/")[0]
    return [MetricRow("demo", env, profile, scale, variant, first_seed + i, panel, metric, value, 50, cost)
            for i, value in enumerate(values)]


A, B = [0.50, 0.56, 0.61, 0.52, 0.58], [0.40, 0.43, 0.52, 0.41, 0.49]


def _one(tmp_path, rows, **claim):
    (record,) = judge(load_claims(_file(tmp_path, claim)), rows)
    return record


# -- verdicts ------------------------------------------------------------------------------------------


def test_a_record_holds_the_paired_test(tmp_path):
    record, test = _one(tmp_path, _rows("a", A) + _rows("b", B)), paired(A, B)
    assert tuple(record) == FIELDS
    assert (record["verdict"], record["reason"], record["n_seeds"]) == ("supported", "", 5)
    assert (record["effect"], record["ci_low"], record["ci_high"], record["p"]) == pytest.approx(
        (test.effect, test.low, test.high, test.p), rel=1e-5)
    assert record["p_holm"] == record["p"]  # one claim only
    assert (record["value_better"], record["value_worse"]) == pytest.approx((sum(A) / 5, sum(B) / 5))
    assert (record["env"], record["scale"], record["profile"]) == ("countdown-v1", "nano", "cpu")


def test_the_reverse_is_contradicted_and_the_lower_direction_turns_it(tmp_path):
    rows = _rows("a", B) + _rows("b", A)
    record = _one(tmp_path, rows)
    assert record["verdict"] == "contradicted" and record["reason"].startswith("reversed:")
    lower = _one(tmp_path, rows, direction="lower")
    assert lower["verdict"] == "supported" and lower["effect"] == pytest.approx(-record["effect"])
    assert lower["ci_low"] == pytest.approx(-record["ci_high"])
    assert lower["value_better"] == record["value_better"]


def test_the_margin_moves_the_verdict(tmp_path):
    rows, test = _rows("a", A) + _rows("b", B), paired(A, B)
    assert 0.05 < test.low < 0.09 < test.high < 0.2
    assert _one(tmp_path, rows, margin=0.05)["verdict"] == "supported"
    assert _one(tmp_path, rows, margin=0.09)["verdict"] == "inconclusive"
    refuted = _one(tmp_path, rows, margin=0.2)  # shown to be less than claimed, though above zero
    assert refuted["verdict"] == "contradicted" and refuted["reason"].startswith("below the margin 0.2:")
    assert refuted["ci_low"] > 0


def test_no_effect_is_inconclusive_however_many_seeds(tmp_path):
    noise = [0.001 * (-1) ** i for i in range(50)]
    rows = _rows("a", [0.5 + x for x in noise]) + _rows("b", [0.5] * 50)
    record = _one(tmp_path, rows)
    assert record["verdict"] == "inconclusive" and record["reason"].startswith("interval holds the margin")
    assert record["ci_high"] < 0.001 and record["seeds_to_decide"] is None


def test_one_seed_and_no_spread_are_inconclusive(tmp_path):
    single = _one(tmp_path, _rows("a", [0.9]) + _rows("b", [0.1]))
    assert (single["verdict"], single["n_seeds"], single["effect"]) == ("inconclusive", 1, pytest.approx(0.8))
    assert single["ci_low"] is single["p"] is single["p_holm"] is single["seeds_to_decide"] is None
    assert single["reason"].startswith("one seed:")
    flat = _one(tmp_path, _rows("a", [1.0] * 5) + _rows("b", [0.0] * 5))
    assert (flat["verdict"], flat["ci_low"], flat["effect"]) == ("inconclusive", None, 1.0)
    assert flat["reason"].startswith("no spread:")


def test_null_variants_are_not_supported(tmp_path):
    """Two copies of one variant: never a verdict, and in repeated noise at most the promised error rate."""
    assert _one(tmp_path, _rows("a", A) + _rows("b", A))["verdict"] == "inconclusive"
    import numpy as np

    claims, decided = load_claims(_file(tmp_path, {})), 0
    for values in np.random.default_rng(0).normal(0.5, 0.1, size=(400, 10)):
        (record,) = judge(claims, _rows("a", values[:5]) + _rows("b", values[5:]))
        decided += record["verdict"] != "inconclusive"
    assert decided / 400 == pytest.approx(0.05, abs=0.033)  # three binomial standard errors


def test_holm_counts_the_claims_of_one_panel_only(tmp_path):
    # The first claim has p just below 0.05: alone it is decided, beside a second claim it is not.
    weak = [0.02, 0.05, 0.01, 0.09, 0.04]
    rows = _rows("a", [0.5 + x for x in weak]) + _rows("b", [0.5] * 5) + _rows("c", [0.1, 0.9, 0.2, 0.8, 0.5])
    other = "countdown-v1/validation"
    p = paired(weak, [0.0] * 5).p
    assert 0.025 < p < 0.05
    rows += [dataclasses.replace(row, panel=other) for row in rows]
    second = {"better": "c", "worse": "b"}
    same = judge(load_claims(_file(tmp_path, {}, second)), rows)
    assert same[0]["p_holm"] == pytest.approx(2 * p, rel=1e-5) and same[0]["verdict"] == "inconclusive"
    assert same[0]["reason"].startswith("not after correction:")
    apart = judge(load_claims(_file(tmp_path, {}, {**second, "panels": [other]})), rows)
    assert apart[0]["p_holm"] == pytest.approx(p, rel=1e-5) and apart[0]["verdict"] == "supported"


def test_claims_that_cannot_be_tested_still_count(tmp_path):
    rows = _rows("a", A) + _rows("b", B) + _rows("flat", [0.5] * 5) + _rows("flat2", [0.6] * 5)
    records = judge(load_claims(_file(tmp_path, {}, {"better": "flat2", "worse": "flat"})), rows)
    assert records[0]["p_holm"] == pytest.approx(2 * records[0]["p"], rel=1e-5) and records[1]["p_holm"] is None


def test_each_profile_and_scale_is_judged_by_itself(tmp_path):
    rows = _rows("a", A) + _rows("b", B)
    rows += _rows("a", B, profile="smol", scale="135M") + _rows("b", A, profile="smol", scale="135M")
    verdicts = {(r["profile"], r["scale"]): r["verdict"] for r in judge(load_claims(_file(tmp_path, {})), rows)}
    assert verdicts == {("cpu", "nano"): "supported", ("smol", "135M"): "contradicted"}


def test_only_common_seeds_are_paired(tmp_path):
    rows = _rows("a", A) + _rows("b", B[2:], first_seed=2)
    record = _one(tmp_path, rows)
    assert record["n_seeds"] == 3
    assert record["effect"] == pytest.approx(paired(A[2:], B[2:]).effect, rel=1e-5)
    apart = _one(tmp_path, _rows("a", A) + _rows("b", B, first_seed=9))
    assert (apart["n_seeds"], apart["effect"], apart["verdict"]) == (0, None, "inconclusive")


def test_row_order_does_not_matter(tmp_path):
    rows = _rows("a", A) + _rows("b", B)
    assert judge(load_claims(_file(tmp_path, {})), rows[::-1]) == judge(load_claims(_file(tmp_path, {})), rows)


def test_a_difference_of_differences(tmp_path):
    small, big, other, other_big = A, [0.7, 0.72, 0.71, 0.74, 0.69], B, [0.69, 0.7, 0.69, 0.71, 0.68]
    rows = (_rows("x", small) + _rows("y", other) + _rows("x_big", big, env_steps=900)
            + _rows("y_big", other_big, env_steps=900))
    record = _one(tmp_path, rows, better="x - y", worse="x_big - y_big")
    by_hand = [(a - b) - (c - d) for a, b, c, d in zip(small, other, big, other_big)]
    assert record["effect"] == pytest.approx(sum(by_hand) / 5, rel=1e-5) and record["verdict"] == "supported"
    assert (record["better"], record["value_worse"]) == ("x - y", pytest.approx(0.018))


def test_seeds_to_decide_is_the_power_of_the_hardest_step(tmp_path):
    weak = [0.02, 0.05, -0.01, 0.09, 0.0]
    rows = _rows("a", [0.5 + x for x in weak]) + _rows("b", [0.5] * 5)
    test = paired(weak, [0.0] * 5)
    alone = _one(tmp_path, rows)["seeds_to_decide"]
    assert alone == seeds_needed(test.effect, test.sd, alpha=0.05) > 5
    two = judge(load_claims(_file(tmp_path, {}, {"better": "b", "worse": "a"})), rows)
    assert two[0]["seeds_to_decide"] == seeds_needed(test.effect, test.sd, alpha=0.025) > alone


# -- budgets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spent", "verdict"), [(95, "supported"), (94, "inconclusive"), (106, "inconclusive")])
def test_budgets_must_agree_within_the_tolerance(tmp_path, spent, verdict):
    record = _one(tmp_path, _rows("a", A, env_steps=spent) + _rows("b", B, env_steps=100))
    assert record["verdict"] == verdict
    if verdict == "inconclusive":
        assert record["reason"].startswith("budgets differ: env_steps a seed are a ")
        assert record["effect"] is not None and record["p"] is None  # shown, but not counted as evidence


def test_only_the_named_axis_is_compared(tmp_path):
    rows = _rows("a", A, sampled_tokens=7000) + _rows("b", B)
    assert _one(tmp_path, rows, matched_on="env_steps")["verdict"] == "supported"
    assert _one(tmp_path, rows, matched_on="sampled_tokens")["reason"].startswith("budgets differ: sampled_tokens")
    assert _one(tmp_path, rows, matched_on="none")["verdict"] == "supported"


def test_budgets_are_compared_in_total_over_seeds(tmp_path):
    rows = _rows("a", A) + _rows("b", B)
    for i, spent in ((0, 90), (1, 110)):  # the first two seeds of a
        rows[i] = dataclasses.replace(rows[i], cost={**rows[i].cost, "env_steps": spent})
    assert _one(tmp_path, rows)["verdict"] == "supported"
    assert _one(tmp_path, _rows("a", A, env_steps=0) + _rows("b", B, env_steps=0))["verdict"] == "supported"


def test_budgets_of_differences_agree_within_each(tmp_path):
    rows = _rows("x", A) + _rows("y", B) + _rows("u", B, env_steps=900) + _rows("v", A, env_steps=500)
    record = _one(tmp_path, rows, better="x - y", worse="u - v")
    assert record["reason"].startswith("budgets differ: env_steps a seed are u 900 and v 500")


# -- the hash of the rule ------------------------------------------------------------------------------


def test_rule_sha_is_the_hash_of_the_rule_and_of_nothing_else(tmp_path):
    claim = load_claims(_file(tmp_path, {})).claims[0]
    rule = {"better": "a", "confidence": 0.95, "direction": "higher", "margin": 0.0, "matched_on": "env_steps",
            "metric": "success", "panel": COUNTDOWN, "tolerance": 0.05, "worse": "b"}
    assert claim.rule_sha == hashlib.sha256(json.dumps(rule, sort_keys=True).encode()).hexdigest()
    reworded = load_claims(_file(tmp_path, {"statement": "other words", "why": "x", "id": "Z"})).claims[0]
    assert reworded.rule_sha == claim.rule_sha
    changes = {"better": "c", "worse": "c", "metric": "score", "direction": "lower", "panels": ["shop-v1/test"],
               "matched_on": "updates", "tolerance": 0.1, "margin": 0.01, "confidence": 0.9}
    shas = {load_claims(_file(tmp_path, {name: value})).claims[0].rule_sha for name, value in changes.items()}
    assert len(shas | {claim.rule_sha}) == len(changes) + 1
    assert load_claims(_file(tmp_path, {"margin": 0})).claims[0].rule_sha == claim.rule_sha  # 0 and 0.0 are one


# -- bad input -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        ({"beter": "a"}, ['"D0"', '"beter"', 'did you mean "better"']),
        ({"metric": 3}, ['"D0"', "metric is 3", "must be text"]),
        ({"margin": "0.1"}, ["margin", "without quotes"]),
        ({"panels": "countdown-v1/test"}, ["panels", "must be a list"]),
        ({"panels": []}, ["panels", "at least one"]),
        ({"panels": ["countdown-v1"]}, ['"countdown-v1"', "<env id>/<name>"]),
        ({"panels": ["countdwn-v1/test"]}, ['did you mean "countdown-v1"']),
        ({"matched_on": "env_step"}, ["matched_on", 'did you mean "env_steps"']),
        ({"direction": "up"}, ["direction", "higher, lower"]),
        ({"confidence": 95}, ["confidence is 95.0", "between 0.5 and 1.0"]),
        ({"tolerance": -0.1}, ["tolerance is -0.1"]),
        ({"why": " "}, ["why is empty"]),
        ({"worse": "a"}, ["must differ"]),
        ({"better": "a - b"}, ["the same form on both sides"]),
        ({"better": "a -b"}, ['"a -b"', "one minus"]),
        ({"better": "a - b - c", "worse": "a - b"}, ["one variant or a difference"]),
        ({"id": None}, ["id is None", "must be text"]),
    ],
)  # fmt: skip
def test_bad_claims_are_refused_in_one_sentence(tmp_path, claim, words):
    with pytest.raises(ConfigError) as error:
        load_claims(_file(tmp_path, claim))
    message = str(error.value)
    assert message.startswith("papers/demo/claims.yaml: claim 1") and "\n" not in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"family": "world_model"}, ['did you mean "world_models"']),
        ({"paper": "demos"}, ["the folder is"]),
        ({"source": None}, ['"source" is missing']),
        ({"claims": []}, ["at least one claim"]),
        ({"claims": ["D1"]}, ["claim 1 is 'D1'", "a mapping"]),
        ({"defaults": {"id": "D1"}}, ['unknown name "id"']),
        ({"clams": 1}, ['did you mean "claims"']),
        ({"defaults": {"metric": "success", "panels": [COUNTDOWN], "matched_on": "none"}}, ['"why" is missing']),
    ],
)
def test_bad_files_are_refused_in_one_sentence(tmp_path, changes, words):
    with pytest.raises(ConfigError) as error:
        load_claims(_file(tmp_path, {}, **changes))
    assert all(word in str(error.value) for word in words), str(error.value)
    assert str(error.value).startswith("papers/demo/claims.yaml")


def test_ids_are_unique(tmp_path):
    with pytest.raises(ConfigError, match='the id "X" appears twice'):
        load_claims(_file(tmp_path, {"id": "X"}, {"id": "X", "better": "c"}))


def test_a_corrupt_file_names_its_line(tmp_path):
    path = _file(tmp_path, {})
    path.write_text("paper: demo\nfamily: [world_models\nclaims:\n")
    with pytest.raises(ConfigError, match=r"papers/demo/claims.yaml line \d: not valid YAML") as error:
        load_claims(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        ({"better": "agentq"}, ['the variant "agentq"', '"agent_q"']),
        ({"metric": "sucess"}, ['the metric "sucess"', '"success"']),
        ({"panels": ["countdown-v1/tests"]}, ['the panel "countdown-v1/tests"', '"countdown-v1/test"']),
        ({"better": "zzz"}, ["present are agent_q, b"]),
    ],
)
def test_claims_that_name_something_absent(tmp_path, claim, words):
    rows = _rows("agent_q", A) + _rows("b", B)
    with pytest.raises(ConfigError) as error:
        judge(load_claims(_file(tmp_path, {"better": "agent_q", **claim})), rows)
    assert 'claim "D0"' in str(error.value) and all(word in str(error.value) for word in words), str(error.value)


def test_variants_can_be_checked_before_any_run(tmp_path):
    path = _file(tmp_path, {"better": "c - a", "worse": "c - bb"})
    with pytest.raises(ConfigError, match='the variant "bb".*nearest one present is "b"'):
        load_claims(path, variants=["a", "b", "c"])
    assert load_claims(path, variants=["a", "bb", "c"])


def test_what_was_not_run_is_inconclusive_and_no_error(tmp_path):
    rows = _rows("a", A) + _rows("b", B) + _rows("a", A, profile="smol", scale="135M")
    records = judge(load_claims(_file(tmp_path, {"panels": [COUNTDOWN, "shop-v1/test"]})), rows)
    assert [(r["verdict"], r["panel"], r["scale"]) for r in records] == [
        ("supported", COUNTDOWN, "nano"), ("inconclusive", COUNTDOWN, "135M")]  # of the shop nothing is said
    assert records[1]["reason"].startswith("not run:") and records[1]["n_seeds"] == 0
    assert judge(load_claims(_file(tmp_path, {})), []) == []


def test_environments_of_other_profiles_are_not_asked_about(tmp_path):
    rows = _rows("a", A) + _rows("b", B)
    rows += [dataclasses.replace(row, env="shop-v1", panel="shop-v1/test", profile="smol", scale="135M") for row in rows]
    records = judge(load_claims(_file(tmp_path, {"panels": [COUNTDOWN, "shop-v1/test"]})), rows)
    assert [(r["profile"], r["panel"]) for r in records] == [("cpu", COUNTDOWN), ("smol", "shop-v1/test")]


@pytest.mark.parametrize(("base", "reason"), [(0.0, "floor: success of base is 0, below 0.05"), (0.5, "interval holds"),
                                              (0.99, "ceiling: success of base is 0.99, above 0.95")])  # fmt: skip
def test_a_panel_without_room_is_the_reason_for_no_verdict(tmp_path, base, reason):
    file = _file(tmp_path, {"better": "c", "worse": "b"}, {"better": "a", "worse": "b"})
    file.write_text(file.read_text() + "room: {variant: base, metric: success, low: 0.05, high: 0.95}\n")
    rows = _rows("a", A) + _rows("b", B) + _rows("c", [b + d for b, d in zip(B, (0.1, -0.1, 0.1, -0.1, 0.0))])
    plain, clear = judge(load_claims(file), rows)
    assert plain["reason"].startswith("interval holds")  # no row of base: no floor or ceiling is checked
    judged = judge(load_claims(file), rows + _rows("base", [base] * 5))
    assert judged[0]["verdict"] == "inconclusive" and judged[0]["reason"].startswith(reason), judged[0]["reason"]
    assert judged[1] == clear and clear["verdict"] == "supported"  # what was shown stays shown
    assert [record["rule_sha"] for record in judged] == [plain["rule_sha"], clear["rule_sha"]]


@pytest.mark.parametrize(("room", "words"), [
    ("{variant: base, metric: success, low: 0.9, high: 0.1}", "room: low is 0.9 and high 0.1"),
    ("{variant: base, metric: success, low: 0.1}", "high"),
    ("{variant: base, metric: success, low: few, high: 0.9}", "room: low"),
    ("base", "room is 'base' but must be a mapping"),
])  # fmt: skip
def test_a_mistyped_room_is_named(tmp_path, room, words):
    file = _file(tmp_path, {})
    file.write_text(file.read_text() + f"room: {room}\n")
    with pytest.raises(ConfigError, match=words):
        load_claims(file)


def test_two_rows_for_one_seed_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="two rows for seed 0"):
        judge(load_claims(_file(tmp_path, {})), _rows("a", A) + _rows("b", B) + _rows("a", A[:1]))


# -- the claims of the repository ----------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(ROOT.glob("papers/*/claims.yaml")), ids=lambda path: path.parent.name)
def test_every_claims_file_loads_and_gives_reasons(path):
    paper = load_claims(path)
    assert len({(claim.id, claim.panel) for claim in paper.claims}) == len(paper.claims)
    assert all(len(claim.why) > 5 for claim in paper.claims)


def test_agent_q_claims_cover_the_ladder():
    claims = load_claims(ROOT / "papers" / "agent_q" / "claims.yaml").claims
    steps = {(c.better, c.worse) for c in claims if c.id.startswith("D2.4")}
    ladder = ["base", "rft", "traj_dpo", "agent_q", "agent_q+mcts"]
    assert {((up,), (down,)) for down, up in zip(ladder, ladder[1:])} < steps
    assert {c.id for c in claims} == {f"D2.4{x}" for x in "abcdef"} | {f"D2.5{x}" for x in "abcd"} | {"D2.6a", "D2.6b"}
    tokens = {v for c in claims if c.matched_on == "sampled_tokens" for v in c.variants}
    assert tokens == {"agent_q", "traj_dpo_tok", "rft_tok"}
    by_line = [c for c in claims if c.env in ("reasoning-gym-steps-v1", "gsm8k-steps-v1")]
    assert {c.panel.partition("/")[2] for c in by_line} == {"test"} and len(by_line) == 2 * (1 + 9)  # not D2.6
    assert len(claims) - len(by_line) == 2 + 9 * 3 + 2 * 2
