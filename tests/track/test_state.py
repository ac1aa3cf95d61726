"""Three states of recorded results: computed by this code, attested, stale."""

import pytest

from common.track.fingerprints import Behaviour, Fingerprints
from common.track.state import UNKNOWN, ResultState, result_state

TOLD = {"date": "2026-01-02", "commit": "abc", "what": "9 of 9 values recomputed as before"}
RECORDED = {"params": "p", "room": "r1", "layers": {"engine": "e1", "search": "s1", "file:common/x.py": "x1"}, "data": "d", "base": "b",
            "pins": "n", "code": "c1", "lock": "l", "digests": {"engine": "ed1", "search": "sd1", "room": "r1"}}  # fmt: skip


def prints() -> Fingerprints:
    return Fingerprints({"search": {"s1": Behaviour("p", {}, {"sd1": TOLD, "sd2": TOLD})}}, {"toy": {"r2": {
        "same_as": "r1", "with": {}, "was": {}, "date": "2026-01-03", "units": ["u", "v"]}}})


def state(**changes) -> ResultState:
    return result_state("toy", RECORDED, {**RECORDED, **changes}, prints())


def test_the_same_code_and_inputs_are_computed():
    assert state() == ResultState("computed") and not state().stale
    assert str(state()).startswith("computed by this code")


def test_other_code_of_the_same_behaviour_is_attested_with_what_was_recomputed_and_when():
    found = state(code="c2", digests={"engine": "ed1", "search": "sd2", "room": "r2"}, room="r2")
    assert found.kind == "attested" and not found.stale
    assert "tree search (common/search/mcts.py): 9 of 9 values recomputed as before on 2026-01-02" in str(found)
    assert "its own code gave the rows of 2 units on 2026-01-03" in str(found) and "language models" not in str(found)
    assert "only code that no number depends on differs" in str(state(code="c2"))


@pytest.mark.parametrize(("changes", "words"), [
    ({"params": "x"}, "parameters"), ({"data": "x"}, "data panels"), ({"base": "x"}, "what its base model is made by"),
    ({"pins": "x"}, "numeric libraries in requirements.lock"), ({"room": "r9"}, "code of the paper's own folder"),
    ({"layers": {**RECORDED["layers"], "search": "s2"}}, "tree search (common/search/mcts.py)"),
    ({"layers": {**RECORDED["layers"], "file:common/x.py": "x2"}}, "common/x.py"),
    ({"layers": {"engine": "e1", "search": "s1"}}, "common/x.py"),
    ({"layers": {**RECORDED["layers"], "file:common/y.py": "y"}}, "common/y.py"),
])  # fmt: skip
def test_whatever_else_changed_makes_it_stale_and_is_named(changes, words):
    found = state(**changes, code="c2")
    assert found.stale and found.changed == (words,) and str(found) == f"STALE: other than when it was computed: {words}"


def test_code_that_no_probe_ran_yet_is_stale_with_advice():
    found = state(layers={**RECORDED["layers"], "search": "unattested:sd3"}, code="c2")
    assert found.stale and found.unattested and str(found).endswith("; whether that code behaves as before says: python -m common attest")
    present = {**RECORDED, "layers": {**RECORDED["layers"], "search": "unattested:sd2"}}
    assert result_state("toy", RECORDED, present, prints()).kind == "computed"


def test_what_was_recorded_before_there_were_layers_is_computed_or_stale():
    old = {"params": "p", "code": "c1", "data": "d", "base": "b", "lock": "l"}
    assert result_state("toy", old, RECORDED, prints()).kind == "computed"
    assert result_state("toy", old, {**RECORDED, "code": "c2", "lock": "m"}, prints()).changed == (
        "code that the method reaches", "requirements.lock")


def test_unknown_says_why():
    assert "of unknown origin" in str(UNKNOWN) and not UNKNOWN.stale
