"""Dialogues of several agents: which are worth reading, what is marked, and that texts are harmless."""

from __future__ import annotations

import json

from common.report import dialogue

ROLES = ("generator", "verifier", "refiner")


def told(**chains: tuple[bool, bool, bool]) -> dict:
    return {task: [{"task": task, "role": role, "prompt": f"<{task}>", "text": f"{right} & |", "right": right}
                   for role, right in zip(ROLES, chain)] for task, chain in chains.items()}  # fmt: skip


def test_chains_worth_reading_are_of_different_kinds():
    before = told(a=(False, False, False), b=(True, True, True), c=(False, True, False), d=(False, False, False))
    after = told(a=(False, True, True), b=(True, False, False), c=(False, False, False), d=(True, True, True))
    found = dict((task, name) for name, task in dialogue.contrasts(before, after))
    assert list(found) == ["a", "b", "c"] and "repairs" in found["a"] and "false verdict" in found["c"]
    assert dialogue.contrasts(before, {}) == []
    again = dialogue.contrasts(told(d=(False, False, False)), told(d=(True, True, True)))
    assert [task for _, task in again] == ["d"]
    pair = dialogue.contrasts(told(e=(False, False), f=(True, True)), told(e=(False, True), f=(True, False)))
    assert dict((task, name) for name, task in pair)["e"] == "the trained observer repairs what the pioneer answered"
    assert {task for _, task in pair} == {"e", "f"}


def test_the_viewer_marks_what_is_right_and_what_changed_and_escapes_text(tmp_path):
    sides = {"trio": told(a=(False, True, False)), "malt": told(a=(False, True, True))}
    table = dialogue.viewer(sides, "a")
    assert table.count("✓") == 3 and table.count("✗") == 3 and table.count("(changed)") == 1
    assert "&lt;a&gt;" in table and "<a>" not in table and "&amp;" in table
    assert "was kept" in dialogue.viewer(sides, "zz")
    rows = [turn for turns in sides["malt"].values() for turn in turns]
    (tmp_path / "dialogues.malt.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert dialogue.dialogues(tmp_path, "malt") == sides["malt"] and dialogue.dialogues(tmp_path, "x") == {}
