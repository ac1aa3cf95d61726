"""Claims files are read strictly, and what decides a verdict is hashed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from common.config.strict import ConfigError
from common.evaluate.claims import RULE, load_claims
from tests.evaluate.claims_files import PANEL as COUNTDOWN, claims_file

ROOT = Path(__file__).resolve().parents[2]




# -- the hash of the rule ------------------------------------------------------------------------------


def test_rule_sha_is_the_hash_of_the_rule_and_of_nothing_else(tmp_path):
    claim = load_claims(claims_file(tmp_path, {})).claims[0]
    rule = {"admission": [], "at_least": 0.0, "better": "a", "confidence": 0.95, "direction": "higher", "looks": [10, 20], "margin": 0.03,
            "matched_on": "env_steps", "metric": "success", "panel": COUNTDOWN, "primary": False, "tolerance": 0.05, "worse": "b"}
    assert set(rule) == set(RULE) == set(claim.rule)
    assert claim.rule_sha == hashlib.sha256(json.dumps(rule, sort_keys=True).encode()).hexdigest()
    reworded = load_claims(claims_file(tmp_path, {"statement": "other words", "why": "x", "id": "Z"})).claims[0]
    assert reworded.rule_sha == claim.rule_sha
    changes = {"better": "c", "worse": "c", "metric": "score", "direction": "lower", "panels": ["shop-v1/test"],
               "matched_on": "updates", "tolerance": 0.1, "margin": 0.01, "confidence": 0.99, "at_least": 0.1, "primary": True}
    shas = {load_claims(claims_file(tmp_path, {name: value})).claims[0].rule_sha for name, value in changes.items()}
    shas.add(load_claims(claims_file(tmp_path, {}, looks=[5])).claims[0].rule_sha)
    check = {"id": "x", "says": "y", "value": "a/success", "at_least": 0.1}
    shas |= {load_claims(claims_file(tmp_path, {}, admission=[check | more])).claims[0].rule_sha for more in ({}, {"at_most": 0.9}, {"value": "b/success"})}
    assert len(shas | {claim.rule_sha}) == len(changes) + 5
    assert load_claims(claims_file(tmp_path, {}, admission=[check | {"says": "z"}])).claims[0].rule_sha in shas  # words are not the rule
    assert load_claims(claims_file(tmp_path, {"at_least": 0})).claims[0].rule_sha == claim.rule_sha  # 0 and 0.0 are one


def test_looks_may_differ_by_panel(tmp_path):
    paper = load_claims(claims_file(tmp_path, {"panels": [COUNTDOWN, "shop-v1/test"]}, looks={"shop-v1/test": [5]}))
    assert {claim.panel: claim.looks for claim in paper.claims} == {COUNTDOWN: (10, 20), "shop-v1/test": (5,)}


# -- bad input -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        ({"beter": "a"}, ['"D0"', '"beter"', 'did you mean "better"']),
        ({"metric": 3}, ['"D0"', "metric is 3", "must be text"]),
        ({"at_least": "0.1"}, ["at_least", "without quotes"]),
        ({"panels": "countdown-v1/test"}, ["panels", "must be a list"]),
        ({"panels": []}, ["panels", "at least one"]),
        ({"panels": ["countdown-v1"]}, ['"countdown-v1"', "<env id>/<name>"]),
        ({"panels": ["countdwn-v1/test"]}, ['did you mean "countdown-v1"']),
        ({"matched_on": "env_step"}, ["matched_on", 'did you mean "env_steps"']),
        ({"direction": "up"}, ["direction", "higher, lower"]),
        ({"confidence": 95}, ["confidence is 95", "at least 0.95 and at most 0.999"]),
        ({"confidence": 0.51}, ["confidence is 0.51", "at least 0.95"]),
        ({"tolerance": -0.1}, ["tolerance is -0.1"]),
        ({"tolerance": 0.99}, ["tolerance is 0.99", "at most 0.2"]),
        ({"margin": 0}, ["margin is 0", "above 0 and at most 0.5"]),
        ({"margin": -0.03}, ["margin is -0.03", "above 0"]),
        ({"margin": 0.6}, ["margin is 0.6", "at most 0.5"]),
        ({"at_least": -5}, ["at_least is -5", "at least -1 and at most 1"]),
        ({"primary": 1}, ["primary is 1", "true or false"]),
        ({"better": "a - a", "worse": "a - b"}, ['better is "a - a"', "less itself"]),
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
        load_claims(claims_file(tmp_path, claim))
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
        ({"defaults": {"primary": True}}, ['unknown name "primary"']),
        ({"looks": []}, ["looks is []", "one or two rising numbers"]),
        ({"looks": [20, 10]}, ["looks is [20, 10]"]),
        ({"looks": [5, 10, 20]}, ["one or two"]),
        ({"looks": [1]}, ["the first at least 2"]),
        ({"looks": {"env/nowhere": [5]}}, ['looks names the panel "env/nowhere"', "nothing is claimed"]),
        ({"looks": [10.5]}, ["looks[0] is 10.5", "whole number"]),
        ({"clams": 1}, ['did you mean "claims"']),
        ({"defaults": {"metric": "success", "panels": [COUNTDOWN], "matched_on": "none"}}, ['"why" is missing']),
    ],
)
def test_bad_files_are_refused_in_one_sentence(tmp_path, changes, words):
    with pytest.raises(ConfigError) as error:
        load_claims(claims_file(tmp_path, {}, **changes))
    assert all(word in str(error.value) for word in words), str(error.value)
    assert str(error.value).startswith("papers/demo/claims.yaml")


def test_ids_are_unique(tmp_path):
    with pytest.raises(ConfigError, match='the id "X" appears twice'):
        load_claims(claims_file(tmp_path, {"id": "X"}, {"id": "X", "better": "c"}))


@pytest.mark.parametrize(("second", "words"), [
    ({}, "have one rule"),
    ({"better": "b", "worse": "a", "direction": "lower"}, "have one rule"),  # the same, turned twice
    ({"statement": "in other words", "margin": 0.1}, "have one rule"),
    ({"better": "b", "worse": "a"}, "the reverse of each other"),
    ({"direction": "lower"}, "the reverse of each other"),
    ({"better": "b", "worse": "a", "at_least": 0.1}, "the reverse of each other"),
])  # fmt: skip
def test_a_question_counts_once(tmp_path, second, words):
    with pytest.raises(ConfigError, match=f'the claims "D0" and "D1" on {COUNTDOWN} .*{words}') as error:
        load_claims(claims_file(tmp_path, {}, second))
    assert "\n" not in str(error.value)


def test_differences_are_compared_once_too(tmp_path):
    first = {"better": "a - b", "worse": "c - d"}
    for again, words in (({"better": "a - c", "worse": "b - d"}, "one rule"), ({"better": "d - b", "worse": "c - a"}, "one rule"),
                         ({"better": "c - d", "worse": "a - b"}, "reverse")):  # (a − b) − (c − d) = (a − c) − (b − d) = (d − b) − (c − a)
        with pytest.raises(ConfigError, match=words):
            load_claims(claims_file(tmp_path, first, again))
    assert load_claims(claims_file(tmp_path, first, {"better": "a - d", "worse": "c - b"}))  # (a − d) − (c − b) is another number


@pytest.mark.parametrize("second", [
    {"metric": "score"}, {"panels": ["shop-v1/test"]}, {"matched_on": "updates"}, {"at_least": 0.1},
    {"better": "b", "worse": "a", "at_least": -0.03, "panels": ["shop-v1/test"]},
])  # fmt: skip
def test_other_questions_may_stand_beside_a_claim(tmp_path, second):
    assert len(load_claims(claims_file(tmp_path, {}, second)).claims) == 2


def test_two_bounds_that_can_both_hold_are_no_reverse(tmp_path):
    """Not lower by 3 points and not higher by 3 points: both are true of no difference."""
    bounds = {"at_least": -0.03}, {"at_least": -0.03, "better": "b", "worse": "a"}
    assert len(load_claims(claims_file(tmp_path, *bounds)).claims) == 2
    with pytest.raises(ConfigError, match="the reverse of each other"):
        load_claims(claims_file(tmp_path, {"at_least": 0.03}, bounds[1]))


def test_at_most_four_records_are_primary_on_the_first_environment(tmp_path):
    claims = [{"better": f"x{i}", "primary": True} for i in range(4)]
    assert sum(claim.primary for claim in load_claims(claims_file(tmp_path, *claims, {"better": "y"})).claims) == 4
    elsewhere = {"better": "y", "primary": True, "panels": ["shop-v1/test"]}
    assert load_claims(claims_file(tmp_path, *claims, elsewhere))
    with pytest.raises(ConfigError, match=r"5 primary records on countdown-v1 \(D0, D1, D2, D3, D4 .*at most 4"):
        load_claims(claims_file(tmp_path, *claims, {"better": "y", "primary": True}))
    two_panels = [{"better": f"x{i}", "primary": True, "panels": [COUNTDOWN, "countdown-v1/validation"]} for i in range(3)]
    with pytest.raises(ConfigError, match="6 primary records"):
        load_claims(claims_file(tmp_path, *two_panels))


def test_a_corrupt_file_names_its_line(tmp_path):
    path = claims_file(tmp_path, {})
    path.write_text("paper: demo\nfamily: [world_models\nclaims:\n")
    with pytest.raises(ConfigError, match=r"papers/demo/claims.yaml line \d: not valid YAML") as error:
        load_claims(path)
    assert "\n" not in str(error.value)


def test_variants_can_be_checked_before_any_run(tmp_path):
    path = claims_file(tmp_path, {"better": "c - a", "worse": "c - bb"})
    with pytest.raises(ConfigError, match='the variant "bb".*nearest one present is "b"'):
        load_claims(path, variants=["a", "b", "c"])
    assert load_claims(path, variants=["a", "bb", "c"])


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
    assert {c.id for c in claims} == {f"D2.4{x}" for x in "abcdg"} | {"D2.5a", "D2.5b", "D2.6b"}
    assert {c.id for c in claims if c.primary} == {f"D2.4{x}" for x in "abcd"}
    budgets = {c.id for c in claims if c.matched_on == "env_steps"}
    assert budgets == {"D2.4b", "D2.4c", "D2.5a", "D2.5b", "D2.6b"}  # what learns from experience gets as many steps
    assert {c.env for c in claims if c.id in ("D2.5a", "D2.5b", "D2.6b")} == {"countdown-v2"} and len(claims) == 5 * 5 + 3
