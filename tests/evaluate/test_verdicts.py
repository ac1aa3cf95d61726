"""Verdicts follow from intervals computed by hand, in the order that the module's docstring gives."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from common.config.strict import ConfigError
from common.evaluate.claims import load_claims
from common.evaluate.stats import nominal_level, paired
from common.evaluate.verdicts import FIELDS, Judged, judge
from tests.evaluate.claims_files import PANEL, claims_file, judged, one, rows_of

A, B = [0.50, 0.56, 0.61, 0.52, 0.58], [0.40, 0.43, 0.52, 0.41, 0.49]
# d = .10 .13 .09 .11 .09: mean .104, sd √.00028 = .016733; t(.975, 4) = 2.776445, so ± .020777.
LOW, HIGH = 0.083223, 0.124777
AB = rows_of("a", A) + rows_of("b", B)


def _shifted(*differences, base=0.5):
    """Rows of a and b with the given differences."""
    return rows_of("a", [base + x for x in differences]) + rows_of("b", [base] * len(differences))


# -- one interval --------------------------------------------------------------------------------------


def test_a_record_holds_the_interval_by_hand(tmp_path):
    record = one(tmp_path, AB)
    assert tuple(record) == FIELDS
    assert (record["verdict"], record["reason"], record["n_seeds"], record["simultaneous"]) == ("supported", "", 5, 1)
    assert (record["effect"], record["ci_low"], record["ci_high"]) == pytest.approx((0.104, LOW, HIGH), abs=1e-6)
    assert record["level"] == pytest.approx(0.95) and record["next_look"] == "" and record["earlier"] == []
    assert (record["value_better"], record["value_worse"]) == pytest.approx((0.554, 0.450))
    assert (record["env"], record["scale"], record["profile"]) == ("countdown-v1", "nano", "cpu")
    assert (record["primary"], record["looks"], record["at_least"], record["margin"]) == (False, [5], 0.0, 0.03)


def test_the_reverse_is_contradicted_and_the_lower_direction_turns_it(tmp_path):
    rows = rows_of("a", B) + rows_of("b", A)
    record = one(tmp_path, rows)
    assert record["verdict"] == "contradicted" and record["reason"] == "reversed: the interval [-0.1248, -0.08322] lies below 0"
    lower = one(tmp_path, rows, direction="lower")
    assert lower["verdict"] == "supported" and lower["effect"] == pytest.approx(0.104)
    assert (lower["ci_low"], lower["value_better"]) == pytest.approx((LOW, 0.450))


def test_what_the_paper_says_at_least_moves_the_verdict(tmp_path):
    assert one(tmp_path, AB, at_least=0.083)["verdict"] == "supported"
    assert one(tmp_path, AB, at_least=0.084)["verdict"] == "undecided"
    refuted = one(tmp_path, AB, at_least=0.125)  # shown to be less than claimed, though above zero
    assert refuted["verdict"] == "contradicted" and refuted["ci_low"] > 0
    assert refuted["reason"] == "smaller than the paper says: the interval [0.08322, 0.1248] lies below 0.125"


def test_no_effect_is_an_interval_inside_the_margin_that_holds_zero(tmp_path):
    rows = _shifted(0.01, -0.01, 0.005, -0.005, 0.0)  # mean 0, sd √.0000625 = .0079057: ± .0098162
    record = one(tmp_path, rows)
    assert (record["verdict"], record["ci_high"]) == ("no effect", pytest.approx(0.0098162, abs=1e-6))
    assert record["reason"] == "within ±0.03: the interval is [-0.009816, 0.009816]"
    assert one(tmp_path, rows, margin=0.0099)["verdict"] == "no effect"
    wide = one(tmp_path, rows, margin=0.0098)
    assert wide["verdict"] == "undecided" and wide["reason"] == "interval: [-0.009816, 0.009816] holds 0 and reaches beyond ±0.0098"


def test_a_sign_that_is_shown_is_the_verdict_though_small(tmp_path):
    small = [0.010, 0.013, 0.009, 0.011, 0.009]  # a tenth of A − B: [.0083, .0125]
    record = one(tmp_path, _shifted(*small))
    assert record["verdict"] == "supported"
    assert record["reason"] == "smaller than the smallest effect of interest: the interval [0.008322, 0.01248] lies inside ±0.03"
    reverse = one(tmp_path, _shifted(*(-x for x in small)))
    assert reverse["verdict"] == "contradicted"
    assert reverse["reason"].startswith("reversed and smaller than the smallest effect of interest: ")
    assert one(tmp_path, _shifted(*small), at_least=0.0125)["reason"].startswith("smaller than the paper says and smaller than the smallest")
    assert one(tmp_path, _shifted(*small), margin=0.01)["reason"] == ""


def test_a_loss_that_is_bounded_is_supported(tmp_path):
    rows = _shifted(0.01, -0.01, 0.005, -0.005, 0.0)
    assert one(tmp_path, rows, at_least=-0.03)["verdict"] == "supported"  # no worse by three points
    lost = one(tmp_path, _shifted(-0.10, -0.13, -0.09, -0.11, -0.09), at_least=-0.03)
    assert lost["verdict"] == "contradicted" and lost["reason"].startswith("below the bound: ")


def test_values_without_spread_are_undecided(tmp_path):
    flat = one(tmp_path, rows_of("a", [1.0] * 5) + rows_of("b", [0.0] * 5))
    assert (flat["verdict"], flat["ci_low"], flat["effect"], flat["level"]) == ("undecided", None, 1.0, None)
    assert flat["reason"].startswith("no spread: all 5 seeds differ by exactly 1,")
    saturated = one(tmp_path, rows_of("a", [1.0] * 5) + rows_of("b", [1.0] * 5))
    assert saturated["reason"].startswith("no spread: all 5 seeds differ by exactly 0,")


def test_one_run_under_two_names_is_an_error_of_the_claim(tmp_path):
    rows = rows_of("a", A) + rows_of("b", A)
    same = one(tmp_path, rows)
    assert same["verdict"] == "undecided" and same["reason"].startswith("identical rows: a, b have the same value of every metric")
    other = rows + rows_of("a", A, metric="score") + rows_of("b", B, metric="score")  # another metric tells them apart
    assert one(tmp_path, other)["reason"].startswith("no spread:")
    both = rows + rows_of("c", B) + rows_of("d", B)
    assert one(tmp_path, both, better="a - c", worse="b - d")["reason"].startswith("identical rows: a, c, b, d have")
    crossed = one(tmp_path, both, better="a - b", worse="c - d")
    assert crossed["reason"].startswith("identical rows:")


def test_a_difference_of_differences(tmp_path):
    small, big, other, other_big = A, [0.7, 0.72, 0.71, 0.74, 0.69], B, [0.69, 0.7, 0.69, 0.71, 0.68]
    rows = (rows_of("x", small) + rows_of("y", other) + rows_of("x_big", big, env_steps=900)
            + rows_of("y_big", other_big, env_steps=900))
    record = one(tmp_path, rows, better="x - y", worse="x_big - y_big")
    by_hand = [(a - b) - (c - d) for a, b, c, d in zip(small, other, big, other_big)]
    assert record["effect"] == pytest.approx(sum(by_hand) / 5, rel=1e-5) and record["verdict"] == "supported"
    assert (record["better"], record["value_worse"]) == ("x - y", pytest.approx(0.018))


# -- families and looks --------------------------------------------------------------------------------


def test_intervals_widen_with_the_family_on_the_panel(tmp_path):
    other = "countdown-v1/validation"
    rows = AB + rows_of("c", [0.1, 0.9, 0.2, 0.8, 0.5])
    rows += [dataclasses.replace(row, panel=other) for row in rows]
    second = {"better": "c"}
    first, _ = judged(tmp_path, rows, {}, second).claims
    # Two share 5 %: t(.9875, 4) = 3.495406 instead of 2.776445.
    assert first["simultaneous"] == 2 and first["level"] == pytest.approx(0.975)
    assert first["ci_low"] == pytest.approx(0.104 - 3.495406 * math.sqrt(0.00028 / 5), abs=1e-6)
    apart, elsewhere = judged(tmp_path, rows, {}, {**second, "panels": [other]}).claims
    assert (apart["simultaneous"], elsewhere["simultaneous"]) == (1, 1) and apart["ci_low"] == pytest.approx(LOW, abs=1e-6)


def test_primary_claims_are_a_family_of_their_own(tmp_path):
    rows = AB + rows_of("c", B) + rows_of("d", A)
    claims = judged(tmp_path, rows, {"primary": True}, {"better": "d", "worse": "c"}, {"better": "a", "worse": "c"}).claims
    assert [(one_["primary"], one_["simultaneous"]) for one_ in claims] == [(True, 1), (False, 2), (False, 2)]


def test_claims_that_cannot_be_tested_still_count(tmp_path):
    rows = AB + rows_of("flat", [0.5] * 5) + rows_of("flat2", [0.6] * 5)
    first, second = judged(tmp_path, rows, {}, {"better": "flat2", "worse": "flat"}).claims
    assert first["simultaneous"] == 2 and second["verdict"] == "undecided"


@pytest.mark.parametrize(("n", "reason", "next_look"), [
    (1, "1 of 20 seeds: read at 10 or 20", ""), (7, "7 of 20 seeds: read at 10 or 20", ""),
    (10, "interval: ", "undecided at 10; next and last look at 20"), (15, "15 of 20 seeds: read at 10 or 20", ""),
    (20, "interval: ", "undecided at the last look"), (21, "21 seeds, more than the last look: read at 10 or 20", ""),
])  # fmt: skip
def test_a_verdict_is_read_at_looks_only(tmp_path, n, reason, next_look):
    rows = _shifted(*[0.5 * (-1) ** i + 0.01 * (i == 0) for i in range(n)])
    record = judged(tmp_path, rows, {}, looks=[10, 20]).claims[0]
    assert record["verdict"] == "undecided" and record["reason"].startswith(reason) and record["next_look"] == next_look
    assert (record["ci_low"] is None) == (n not in (10, 20)) and record["effect"] is not None


def test_both_looks_share_the_error_rate(tmp_path):
    values = [0.04, 0.01, 0.03, 0.05, 0.02] * 2
    record = judged(tmp_path, _shifted(*values), {}, looks=[10, 20]).claims[0]
    assert record["level"] == pytest.approx(1 - 0.0293858, abs=1e-6)  # Pocock's constant level for two looks, .0294
    test = paired(values, [0.0] * 10, confidence=1 - 0.029385785866)
    assert (record["ci_low"], record["ci_high"]) == pytest.approx((test.low, test.high), rel=1e-5)
    assert record["verdict"] == "supported" and record["next_look"] == ""


def test_decided_claims_name_no_next_look(tmp_path):
    none = judged(tmp_path, _shifted(*[0.001 * (-1) ** i for i in range(10)]), {}, looks=[10, 20]).claims[0]
    assert (none["verdict"], none["next_look"]) == ("no effect", "")


def test_null_variants_are_decided_at_most_as_often_as_promised(tmp_path):
    claims, decided = load_claims(claims_file(tmp_path, {}, looks=[5])), 0
    for values in np.random.default_rng(0).normal(0.5, 0.1, size=(400, 10)):
        (record,) = judge(claims, rows_of("a", values[:5]) + rows_of("b", values[5:])).claims
        decided += record["verdict"] in ("supported", "contradicted")
    assert decided / 400 == pytest.approx(0.05, abs=0.033)  # three binomial standard errors


# -- what was run --------------------------------------------------------------------------------------


def test_each_profile_and_scale_is_judged_by_itself(tmp_path):
    rows = AB + rows_of("a", B, profile="smol", scale="135M") + rows_of("b", A, profile="smol", scale="135M")
    verdicts = {(r["profile"], r["scale"]): r["verdict"] for r in judged(tmp_path, rows, {}).claims}
    assert verdicts == {("cpu", "nano"): "supported", ("smol", "135M"): "contradicted"}


def test_only_common_seeds_are_paired(tmp_path):
    rows = rows_of("a", A) + rows_of("b", B[2:], first_seed=2)
    record = judged(tmp_path, rows, {}, looks=[3]).claims[0]
    assert record["n_seeds"] == 3 and record["effect"] == pytest.approx((0.09 + 0.11 + 0.09) / 3, rel=1e-5)
    apart = one(tmp_path, rows_of("a", A) + rows_of("b", B, first_seed=9))
    assert (apart["n_seeds"], apart["effect"], apart["verdict"]) == (0, None, "undecided")
    assert apart["reason"].startswith("no common seed:")


def test_row_order_does_not_matter(tmp_path):
    assert judged(tmp_path, AB[::-1], {}) == judged(tmp_path, AB, {})


def test_what_was_not_run_is_undecided_and_no_error(tmp_path):
    rows = AB + rows_of("a", A, profile="smol", scale="135M")
    records = judged(tmp_path, rows, {"panels": [PANEL, "shop-v1/test"]}).claims
    assert [(r["verdict"], r["panel"], r["scale"]) for r in records] == [
        ("supported", PANEL, "nano"), ("undecided", PANEL, "135M")]  # of the shop nothing is said
    assert records[1]["reason"].startswith("not run:") and (records[1]["n_seeds"], records[1]["next_look"]) == (0, "")
    assert judged(tmp_path, [], {}) == Judged()


def test_environments_of_other_profiles_are_not_asked_about(tmp_path):
    rows = AB + [dataclasses.replace(row, env="shop-v1", panel="shop-v1/test", profile="smol", scale="135M") for row in AB]
    records = judged(tmp_path, rows, {"panels": [PANEL, "shop-v1/test"]}).claims
    assert [(r["profile"], r["panel"]) for r in records] == [("cpu", PANEL), ("smol", "shop-v1/test")]


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        ({"better": "agentq"}, ['the variant "agentq"', '"agent_q"']),
        ({"metric": "sucess"}, ['the metric "sucess"', '"success"']),
        ({"panels": ["countdown-v1/tests"]}, ['the panel "countdown-v1/tests"', '"countdown-v1/test"']),
        ({"better": "zzz"}, ["present are agent_q, b"]),
        ({"metric": "pair_count"}, ['the metric "pair_count"', "present are success"]),  # measured on another panel alone
    ],
)
def test_claims_that_name_something_absent(tmp_path, claim, words):
    rows = rows_of("agent_q", A) + rows_of("b", B) + rows_of("b", B, metric="pair_count", panel="countdown-v1/train")
    with pytest.raises(ConfigError) as error:
        judged(tmp_path, rows, {"better": "agent_q", **claim})
    assert 'claim "D0"' in str(error.value) and all(word in str(error.value) for word in words), str(error.value)


def test_a_toy_run_may_lack_a_metric(tmp_path):
    rows = rows_of("a", A, profile="smoke") + rows_of("b", B, profile="smoke")
    assert one(tmp_path, rows, metric="pair_accuracy")["reason"].startswith("not run: no pair_accuracy of a, b")


def test_a_metric_that_one_variant_lacks_was_not_run(tmp_path):
    record = one(tmp_path, AB + rows_of("a", A, metric="cl"), metric="cl")
    assert record["reason"].startswith("not run: no cl of b on")


def test_two_rows_for_one_seed_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="two rows for seed 0"):
        judged(tmp_path, AB + rows_of("a", A[:1]), {})


# -- budgets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spent", "verdict"), [(95, "supported"), (94, "undecided"), (106, "undecided")])
def test_budgets_must_agree_within_the_tolerance(tmp_path, spent, verdict):
    record = one(tmp_path, rows_of("a", A, env_steps=spent) + rows_of("b", B, env_steps=100))
    assert record["verdict"] == verdict
    if verdict == "undecided":
        assert record["reason"] == f"budgets differ: env_steps a seed are a {spent} and b 100, more than 5% apart"
        assert record["effect"] is not None and record["next_look"] == ""  # no further seeds would mend it


def test_only_the_named_axis_is_compared(tmp_path):
    rows = rows_of("a", A, sampled_tokens=7000) + rows_of("b", B)
    assert one(tmp_path, rows, matched_on="env_steps")["verdict"] == "supported"
    assert one(tmp_path, rows, matched_on="sampled_tokens")["reason"].startswith("budgets differ: sampled_tokens")
    assert one(tmp_path, rows, matched_on="none")["verdict"] == "supported"


def test_budgets_must_agree_in_every_seed(tmp_path):
    rows = list(AB)
    for i, spent in ((0, 10), (1, 190)):  # the first two seeds of a; the sum is that of b
        rows[i] = dataclasses.replace(rows[i], cost={**rows[i].cost, "env_steps": spent})
    record = one(tmp_path, rows)
    assert record["verdict"] == "undecided"
    assert record["reason"] == "budgets differ: env_steps of seed 0 are a 10 and b 100, more than 5% apart, though the totals agree"
    for i, spent in ((0, 96), (1, 104)):
        rows[i] = dataclasses.replace(rows[i], cost={**rows[i].cost, "env_steps": spent})
    assert one(tmp_path, rows)["verdict"] == "supported"


def test_a_budget_that_nobody_spent_matches_nothing(tmp_path):
    record = one(tmp_path, rows_of("a", A, env_steps=0) + rows_of("b", B, env_steps=0))
    assert record["verdict"] == "undecided" and record["reason"].startswith("no budget: neither a nor b spent any env_steps;")


def test_budgets_of_differences_agree_within_each(tmp_path):
    rows = rows_of("x", A) + rows_of("y", B) + rows_of("u", B, env_steps=900) + rows_of("v", A, env_steps=500)
    record = one(tmp_path, rows, better="x - y", worse="u - v")
    assert record["reason"].startswith("budgets differ: env_steps a seed are u 900 and v 500")


# -- decodings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("other", "said"), [(-0.02, True), (-0.0099, False), (0.02, False)])
@pytest.mark.parametrize("reversed_", [False, True])
def test_the_other_decoding_is_named_where_its_sign_differs(tmp_path, other, said, reversed_):
    """A third of the margin .03 is .01."""
    sign = -1 if reversed_ else 1
    rows = (rows_of("b", A) + rows_of("a", B)) if reversed_ else AB
    rows = rows + rows_of("a", [0.5 + sign * other] * 5, metric="greedy_success") + rows_of("b", [0.5] * 5, metric="greedy_success")
    record = one(tmp_path, rows)
    assert record["verdict"] == ("contradicted" if reversed_ else "supported")
    assert record["other_effect"] == pytest.approx(sign * other)
    assert (f"greedy decoding has the other sign ({sign * other:+.3g})" in record["reason"]) == said
    assert record["reason"].startswith("greedy decoding") == said


def test_a_claim_on_greedy_answers_hears_of_sampled_ones(tmp_path):
    rows = rows_of("a", A, metric="greedy_success") + rows_of("b", B, metric="greedy_success") + rows_of("a", B) + rows_of("b", A)
    record = one(tmp_path, rows, metric="greedy_success")
    assert record["verdict"] == "supported" and record["other_effect"] == pytest.approx(-0.104)
    assert record["reason"] == "sampled decoding has the other sign (-0.104)"
    assert one(tmp_path, AB)["other_effect"] is None
    partly = AB + rows_of("a", B, metric="greedy_success") + rows_of("b", A[:4], metric="greedy_success")
    assert one(tmp_path, partly)["other_effect"] is None  # of other seeds


def test_an_undecided_claim_has_no_sign_to_differ_from(tmp_path):
    rows = _shifted(0.3, -0.3, 0.2, -0.1, 0.0) + rows_of("a", [0.4] * 5, metric="greedy_success") + rows_of("b", [0.5] * 5, metric="greedy_success")
    record = one(tmp_path, rows)
    assert record["other_effect"] == pytest.approx(-0.1) and "decoding" not in record["reason"]
    bound = one(tmp_path, _shifted(0.01, -0.01, 0.005, -0.005, 0.001)
                + rows_of("a", [0.4] * 5, metric="greedy_success") + rows_of("b", [0.5] * 5, metric="greedy_success"), at_least=-0.03)
    assert bound["verdict"] == "supported" and bound["reason"] == ""  # a bound, no sign


def test_nominal_levels_are_those_in_use(tmp_path):
    m = 3
    rows = AB + rows_of("c", B) + rows_of("d", B)
    claims = judged(tmp_path, [dataclasses.replace(row, seed=row.seed + 5 * k) for row in rows for k in (0, 1)], {},
                    {"worse": "c"}, {"worse": "d"}, looks=[10, 20]).claims
    assert {record["level"] for record in claims} == {float(f"{1 - nominal_level(0.05 / m, (10, 20)):.6g}")}
