"""Admission checks are read strictly, measured by hand, and decide before any interval."""

from __future__ import annotations

import pytest

from common.config.strict import ConfigError
from common.evaluate.admission import CHECK_FIELDS
from common.evaluate.claims import load_claims
from tests.evaluate.claims_files import PANEL, claims_file, judged, rows_of

A, B = [0.50, 0.56, 0.61, 0.52, 0.58], [0.40, 0.43, 0.52, 0.41, 0.49]
AB = rows_of("a", A) + rows_of("b", B)
BASE = {"id": "headroom", "says": "the base solves some tasks", "value": "base/success", "at_least": 0.05, "at_most": 0.95}


@pytest.mark.parametrize(("base", "passed"), [(0.0, False), (0.049, False), (0.05, True), (0.95, True), (0.99, False)])
def test_a_failed_check_decides_before_the_interval(tmp_path, base, passed):
    rows = AB + rows_of("base", [base] * 5)
    found = judged(tmp_path, rows, {}, admission=[BASE])
    (claim,), (check,) = found.claims, found.admission
    assert tuple(check) == CHECK_FIELDS and check["passed"] is passed
    assert (check["panel"], check["n_seeds"], check["mean"], check["claims"]) == (PANEL, 5, base, ["D0"])
    assert claim["verdict"] == ("supported" if passed else "not testable here")
    assert claim["ci_low"] is not None and claim["next_look"] == ""  # the interval is shown, not asked
    if not passed:
        assert claim["reason"] == (f"headroom: base/success is {base:g}, not at least 0.05 and at most 0.95; it must hold that the base solves "
                                   "some tasks")


def test_a_difference_by_hand_with_its_interval(tmp_path):
    """pass@8 − success = .3 .4 .5: mean .4, sd .1, ± 4.302653 · .1 / √3 = .248414."""
    rows = AB + rows_of("base", [0.5, 0.6, 0.7], metric="pass@8") + rows_of("base", [0.2, 0.2, 0.2])
    check = {"id": "reach", "says": "eight tries find more", "panel": PANEL, "value": "base/pass@8 - base/success", "at_least": 0.3}
    found = judged(tmp_path, rows, {}, admission=[check])
    (record,) = found.admission
    assert (record["mean"], record["low"], record["high"]) == pytest.approx((0.4, 0.4 - 0.248414, 0.4 + 0.248414), abs=1e-6)
    assert record["passed"] and found.claims[0]["verdict"] == "supported"
    failed = judged(tmp_path, rows, {}, admission=[check | {"at_least": 0.41}]).claims[0]
    assert failed["reason"].startswith("reach: base/pass@8 - base/success is 0.4 [0.152, 0.648], not at least 0.41;")


def test_only_seeds_of_both_terms_count(tmp_path):
    rows = AB + rows_of("base", [0.9, 0.5], metric="pass@8") + rows_of("base", [0.3, 0.1], first_seed=1)
    check = {"id": "x", "says": "y", "panel": PANEL, "value": "base/pass@8 - base/success", "at_most": 1.0}
    (record,) = judged(tmp_path, rows, {}, admission=[check]).admission
    assert (record["n_seeds"], record["mean"], record["low"]) == (1, pytest.approx(0.2), None)


def test_a_term_may_be_measured_on_another_panel(tmp_path):
    train = "countdown-v1/train"
    rows = AB + rows_of("base", [0.7] * 5, panel=train, metric="acc@1") + rows_of("base", [0.6] * 5, metric="acc@1")
    check = {"id": "gap", "says": "no overfitting", "panel": PANEL, "value": f"base/acc@1@{train} - base/acc@1", "at_most": 0.2}
    (record,) = judged(tmp_path, rows, {}, admission=[check]).admission
    assert record["mean"] == pytest.approx(0.1) and record["passed"]


def test_a_check_with_a_panel_concerns_its_environment_and_its_claims(tmp_path):
    shop = "shop-v1/test"
    rows = AB + rows_of("a", A, panel=shop) + rows_of("b", B, panel=shop) + rows_of("base", [0.0] * 5)
    check = BASE | {"panel": PANEL}
    two = {"panels": [PANEL, shop]}, {"better": "b", "worse": "a", "metric": "success", "at_least": -0.2, "panels": [PANEL]}
    found = judged(tmp_path, rows, *two, admission=[check])
    assert [(r["id"], r["panel"], r["verdict"]) for r in found.claims] == [
        ("D0", PANEL, "not testable here"), ("D0", shop, "supported"), ("D1", PANEL, "not testable here")]
    named = judged(tmp_path, rows, *two, admission=[check | {"claims": ["D0"]}])
    assert [r["verdict"] for r in named.claims] == ["not testable here", "supported", "supported"]
    assert named.admission[0]["claims"] == ["D0"]


def test_a_check_without_a_panel_is_asked_on_each(tmp_path):
    shop = "shop-v1/test"
    rows = AB + rows_of("a", A, panel=shop) + rows_of("b", B, panel=shop) + rows_of("base", [0.0] * 5) + rows_of("base", [0.5] * 5, panel=shop)
    found = judged(tmp_path, rows, {"panels": [PANEL, shop]}, admission=[BASE])
    assert [(r["panel"], r["verdict"]) for r in found.claims] == [(PANEL, "not testable here"), (shop, "supported")]
    assert [(r["panel"], r["passed"]) for r in found.admission] == [(PANEL, False), (shop, True)]


def test_what_was_not_measured_admits_nothing(tmp_path):
    rows = AB + rows_of("base", [0.5] * 5, profile="smol", scale="135M")
    found = judged(tmp_path, rows, {}, admission=[BASE])
    cpu = next(r for r in found.claims if r["profile"] == "cpu")
    assert cpu["verdict"] == "undecided" and cpu["reason"] == f"headroom not measured: no base/success on {PANEL} at this profile"
    assert [(r["profile"], r["passed"]) for r in found.admission] == [("cpu", None), ("smol", True)]


def test_a_failure_comes_before_what_was_not_measured_and_budgets_before_both(tmp_path):
    rows = AB + rows_of("base", [0.0] * 5) + rows_of("base", [0.0] * 5, metric="other", panel="countdown-v1/train")
    missing = {"id": "first", "says": "x", "value": "base/other", "at_least": 0.1}
    assert judged(tmp_path, rows, {}, admission=[missing, BASE]).claims[0]["reason"].startswith("headroom: ")
    spent = rows_of("a", A, env_steps=7) + rows[5:]
    assert judged(tmp_path, spent, {}, admission=[BASE]).claims[0]["reason"].startswith("budgets differ")
    few = rows_of("a", A[:2]) + rows_of("b", B[:2]) + rows_of("base", [0.0])
    assert judged(tmp_path, few, {}, admission=[BASE]).claims[0]["verdict"] == "not testable here"  # before the number of seeds


@pytest.mark.parametrize(("value", "words"), [("bass/success", 'check "headroom" names the variant "bass"'),
                                              ("base/sucess", 'check "headroom" names the metric "sucess"')])  # fmt: skip
def test_checks_that_name_something_absent(tmp_path, value, words):
    with pytest.raises(ConfigError, match=words):
        judged(tmp_path, AB + rows_of("base", [0.5] * 5), {}, admission=[BASE | {"value": value}])


@pytest.mark.parametrize(("change", "words"), [
    ({"value": "base"}, 'value: "base" must be variant/metric'),
    ({"value": "base/"}, "must be variant/metric"),
    ({"value": "a/x - b/y - c/z"}, "the difference of two"),
    ({"value": "a/x -b/y"}, "must be variant/metric"),
    ({"at_least": 0.9, "at_most": 0.1}, "at_least is 0.9 and at_most 0.1"),
    ({"at_least": None, "at_most": None}, "nothing could fail"),
    ({"at_least": "few"}, "at_least"),
    ({"claims": ["D9"]}, 'there is no claim "D9"'),
    ({"panel": "shop-v1/test"}, 'in the environment of the panel "shop-v1/test"'),
    ({"says": " "}, "says is empty"),
    ({"says": None}, '"says" is missing'),
    ({"vlaue": "x"}, 'unknown name "vlaue"'),
])  # fmt: skip
def test_a_mistyped_check_is_named(tmp_path, change, words):
    check = {name: value for name, value in (BASE | change).items() if value is not None}
    with pytest.raises(ConfigError) as error:
        load_claims(claims_file(tmp_path, {}, admission=[check]))
    message = str(error.value)
    assert message.startswith("papers/demo/claims.yaml: admission 1") and words in message and "\n" not in message


def test_a_check_that_concerns_no_claim_is_refused(tmp_path):
    elsewhere = {"better": "c", "panels": ["shop-v1/test"]}
    with pytest.raises(ConfigError, match='admission "headroom" concerns no claim'):
        load_claims(claims_file(tmp_path, {}, elsewhere, admission=[BASE | {"panel": PANEL, "claims": ["D1"]}]))


def test_checks_are_a_list_with_ids_of_their_own(tmp_path):
    with pytest.raises(ConfigError, match='the id "headroom" appears twice'):
        load_claims(claims_file(tmp_path, {}, admission=[BASE, BASE]))
    with pytest.raises(ConfigError, match="must be a list of checks"):
        load_claims(claims_file(tmp_path, {}, admission={"id": "x"}))
    with pytest.raises(ConfigError, match='unknown name "room"'):
        load_claims(claims_file(tmp_path, {}, room={"variant": "base"}))
