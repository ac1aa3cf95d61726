"""The file of behaviours: which code is known, what equals what within the tolerance, and chains of codes proven the same."""

import json

import pytest

from common.config import ConfigError
from common.track.fingerprints import (
    NAME, Behaviour, Fingerprints, behaviour_id, differences, read, rounded, write_fingerprints,
)

TOLD = {"date": "2026-01-02", "commit": "abc", "what": "3 values seen first"}


def prints(**papers) -> Fingerprints:
    one = Behaviour("p1", {"x": 1.0}, {"d1": TOLD, "d2": TOLD})
    return Fingerprints({"search": {"b1": one, "b2": Behaviour("p1", {"x": 2.0}, {"d3": TOLD})}}, papers)


def test_the_fingerprint_of_code_is_its_behaviour_s_or_says_that_it_is_not_attested():
    found = prints()
    assert [found.of("search", digest) for digest in ("d1", "d2", "d3")] == ["b1", "b1", "b2"]
    assert found.of("search", "d4") == "unattested:d4" and found.of("engine", "d1") == "unattested:d1"
    assert found.resolved("search", "unattested:d3") == "b2" and found.resolved("search", "unattested:d9") == "unattested:d9"
    assert found.resolved("search", "b7") == "b7"


def test_the_file_is_read_as_it_was_written_and_its_text_is_in_order(tmp_path):
    assert read(tmp_path) == Fingerprints()
    found = prints(toy={"r2": {"same_as": "r1", "with": {}, "was": {}, "date": "2026-01-02", "units": ["u"]}})
    write_fingerprints(tmp_path, found)
    assert read(tmp_path) == found and read(tmp_path).text() == (tmp_path / NAME).read_text()
    assert list(json.loads(found.text())["layers"]["search"]) == ["b1", "b2"]
    assert '     "d1": {"commit": "abc", "date": "2026-01-02", "what": "3 values seen first"},\n' in found.text()  # a line each, for git


@pytest.mark.parametrize("text", ["", "[]", '{"layers": {}}', '{"layers": {"x": {"y": {"z": 1}}}, "papers": {}}', "<<<<<<< HEAD"])
def test_a_damaged_file_is_told(tmp_path, text):
    (tmp_path / NAME).write_text(text)
    with pytest.raises(ConfigError, match="fingerprints.json cannot be read .*restore it from git"):
        read(tmp_path)


@pytest.mark.parametrize(("old", "new", "same"), [
    (1.0, 1.00019, True), (1.0, 1.00021, False), (-250.0, -250.04, True), (-250.0, -250.06, False),  # 2e-4 of the larger one
    (0.0, 1.9e-5, True), (0.0, 2.1e-5, False), (1e-6, -1e-6, True),  # near zero
    (3, 3, True), (3, 4, False), (3, 3.0001, True), ("a", "a", True), ("a", "b", False), (1.0, "1.0", False), (1.0, None, False),
])  # fmt: skip
def test_numbers_are_equal_within_the_tolerance_and_texts_exactly(old, new, same):
    found = {} if new is None else {"x": new}
    assert (differences({"x": old}, found) == {}) == same


def test_moved_values_are_told_by_how_much_and_new_names_do_not_count():
    assert differences({"loss": 2.0, "said": "a"}, {"loss": 2.5, "said": "b", "new": 1}) == {
        "loss": "2 → 2.5 (+0.5)", "said": "a → b"}
    assert differences({"gone": 1.0}, {}) == {"gone": "1.0 → absent"}


def test_values_are_rounded_and_long_texts_hashed():
    found = rounded({"x": 1 / 3, "n": 7, "yes": True, "short": "a" * 24, "long": "a" * 25})
    assert found["x"] == 0.333333 and (found["n"], found["yes"], found["short"]) == (7, 1, "a" * 24)
    assert len(found["long"]) == 24 and found["long"] != rounded({"long": "a" * 26})["long"]
    assert behaviour_id(found) == behaviour_id(dict(reversed(found.items()))) != behaviour_id(found | {"n": 8})
    for value in (float("nan"), float("inf"), None, [1.0]):
        with pytest.raises(ConfigError, match="probe value x is"):
            rounded({"x": value})


def step(same_as: str, new: dict | None = None, was: dict | None = None) -> dict:
    return {"same_as": same_as, "with": new or {}, "was": was or {}, "date": "2026-01-02", "units": ["u"]}


def test_a_room_stands_for_the_end_of_its_chain():
    found = prints(toy={"r3": step("r2"), "r2": step("r1")}, other={"r1": step("r0")})
    assert found.canonical("toy", "r3", {"search": "b1"}) == ("r1", {"search": "b1"})
    assert found.canonical("toy", "r1", {}) == ("r1", {}) and found.canonical("other", "r3", {}) == ("r3", {})


def test_a_chain_that_leads_back_ends():
    assert prints(toy={"a": step("b"), "b": step("a")}).canonical("toy", "a", {})[0] in ("a", "b")


def test_a_proof_about_a_file_beyond_the_paper_s_own_code_leads_back_to_that_code():
    """A file that was edited, or that a layer covers now: the paper's own code is the same before and after."""
    found = prints(toy={"r": step("r", was={"file:reader": "f0"})})
    for layers in ({"search": "b1", "file:reader": "f0"}, {"search": "b1"}):  # as it was recorded, and as it is now
        assert found.canonical("toy", "r", layers) == ("r", {"file:reader": "f0", "search": "b1"})
    edited = prints(toy={"r": step("r", {"file:reader": "f1"}, {"file:reader": "f0"})})
    assert edited.canonical("toy", "r", {"file:reader": "f1"}) == ("r", {"file:reader": "f0"})
    assert edited.canonical("toy", "r", {"file:reader": "f2"}) == ("r", {"file:reader": "f2"})  # edited once more, and not proven


def test_layers_that_a_refactoring_added_are_dropped_while_they_behave_as_in_its_proof():
    found = prints(toy={"r2": step("r1", {"search": "unattested:d1", "file:new": "f1"}, {"file:old": "f0"})})
    assert found.canonical("toy", "r2", {"engine": "e", "search": "b1", "file:new": "f1"}) == ("r1", {"engine": "e", "file:old": "f0"})
    assert found.canonical("toy", "r2", {"engine": "e", "search": "b2", "file:new": "f1"})[0] == "r2"  # it behaves otherwise now
    assert found.canonical("toy", "r2", {"engine": "e", "search": "b1", "file:new": "f2"})[0] == "r2"


def test_unattested_fingerprints_of_code_that_was_attested_since_are_replaced():
    assert prints().canonical("toy", "r", {"search": "unattested:d3", "engine": "unattested:d1"}) == (
        "r", {"engine": "unattested:d1", "search": "b2"})
