"""Examples of what a unit recorded: which are chosen, what is marked, and that recorded texts are harmless."""

from __future__ import annotations

import json

from common.envs.versions.countdown_v1 import CountdownEnv
from common.report import examples, show
from common.report.selfcontained import foreign
from common.types import Task
from tests.papers.units import write_panels

TASK = Task("t/0", "countdown-v1", "t", {"numbers": [8, 7, 24], "target": 24})


def test_records_are_read_back_and_grouped_by_task(tmp_path):
    rows = [{"task": "a", "n": 1}, {"task": "b", "n": 2}, {"task": "a", "n": 3}]
    path = tmp_path / "forecasts.iwm.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert examples.read_records(path) == rows and examples.by_task(path) == {"a": [rows[0], rows[2]], "b": [rows[1]]}
    assert examples.read_records(tmp_path / "absent") == [] and examples.by_task(tmp_path / "absent") == {}


# -- episodes --------------------------------------------------------------------------------------------


def test_contrasts_name_one_task_of_each_kind():
    before = {"a": [{"reward": 0.0}], "b": [{"reward": 0.0}, {"reward": 1.0}], "c": [{"reward": 0.2}],
              "d": [{"reward": 0.0}]}
    after = {"a": [{"reward": 1.0}], "b": [{"reward": 0.9}], "c": [{"reward": 0.0}]}
    assert examples.episode_contrasts(before, after) == [
        ("failed before, solved after", "a"), ("solved before, failed after", "b"), ("failed before and after", "c")]


def test_a_trace_marks_what_is_worth_less_than_the_best():
    steps = [{"step": 0, "action": "24 * 8", "reward": 0.0}, {"step": 1, "action": "192 | 7\n", "reward": 0.0}]
    lines = examples.trace(CountdownEnv(), TASK, steps).splitlines()
    # V* = γ: two steps solve it; 24 · 8 leaves 192 and 7, from which 24 cannot be reached
    assert "| `24 * 8` ✗ | 0.000 | 0.950 | `8 - 7` |" in lines[2]
    assert lines[3].count("|") - lines[3].count("\\|") == 7 and "192 \\| 7" in lines[3]


def test_tasks_are_read_closely_from_what_a_unit_kept(tmp_path):
    """Beside exact values; where the last line acts, what was written before it is shown too."""
    artifacts = tmp_path / "runs/toy/key/artifacts"
    artifacts.mkdir(parents=True)
    write_panels(tmp_path, "countdown-v1", {name: [TASK] for name in ("train", "validation")})  # as in a pilot
    rows = {"a": [("24 * 8", 0.0)], "b": [("think\n8 - 7", 0.0), ("24 * 1", 1.0)]}
    for name, steps in rows.items():
        lines = [{"task": TASK.id, "step": i, "action": action, "reward": reward} for i, (action, reward) in enumerate(steps)]
        (artifacts / f"rollouts.{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert examples.compare_episodes(artifacts, "a", "b") == [examples.NO_RUN]  # nothing says which environment it was
    (artifacts.parent / "unit.json").write_text('{"env": "countdown-v1"}')
    text = "\n".join(examples.compare_episodes(artifacts, "a", "b", last_line=True))
    assert "failed before, solved after: `t/0`" in text and "1: think" in text
    assert text.count("`24 * 8` ✗") == 1 and "`8 - 7` |" in text and "think ⏎" not in text
    assert "`think ⏎ 8 - 7` ✗" in "\n".join(examples.compare_episodes(artifacts, "a", "b"))
    assert examples.world(tmp_path) is None


# -- dialogues -------------------------------------------------------------------------------------------


def test_dialogues_that_differ_come_first_and_text_is_harmless(tmp_path):
    def record(variant: str, ends: dict[str, bool]) -> dict:
        lines = [{"task": task, "turn": turn, "prompt": f"p {task}", "answer": "a|`$b\n",
                  "correct": turn == 2 and right}
                 for task, right in ends.items() for turn in (1, 2)]  # fmt: skip
        (tmp_path / f"dialogues.{variant}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return examples.recorded_dialogues(tmp_path, variant)

    base, score = record("base", {"x": True, "y": False}), record("score", {"x": True, "y": True, "z": True})
    table = examples.dialogue_table({"base": base, "score": score}).splitlines()
    assert [line.split(" | ")[0] for line in table[2:]] == ["| p y", "| p x"]
    assert table[2].count("✓") == 1 and table[2].count("✗") == 3 and "`a\\|'$b` ✗" in table[2]
    long = [{"prompt": "p", "answer": "a" * 300 + "|end", "correct": False}] * 2
    table = examples.dialogue_table({"base": {"t": long}})
    assert table.count("aaa […] aaa") == 2 and table.count("a\\|end") == 2 and len(table) < 600
    assert examples.recorded_dialogues(tmp_path, "absent") == {}
    for nothing in ({}, {"base": base, "absent": {}}):
        assert examples.dialogue_table(nothing).startswith("No dialogues to show")


ROLES = ("generator", "verifier", "refiner")


def chains(**chains: tuple[bool, bool, bool]) -> dict:
    return {task: [{"task": task, "role": role, "prompt": f"<{task}>", "text": f"{right} & |", "right": right}
                   for role, right in zip(ROLES, chain)] for task, chain in chains.items()}  # fmt: skip


def test_chains_worth_reading_are_of_different_kinds():
    before = chains(a=(False, False, False), b=(True, True, True), c=(False, True, False), d=(False, False, False))
    after = chains(a=(False, True, True), b=(True, False, False), c=(False, False, False), d=(True, True, True))
    found = dict((task, name) for name, task in examples.dialogue_contrasts(before, after))
    assert list(found) == ["a", "b", "c"] and "repairs" in found["a"] and "false verdict" in found["c"]
    assert examples.dialogue_contrasts(before, {}) == []
    again = examples.dialogue_contrasts(chains(d=(False, False, False)), chains(d=(True, True, True)))
    assert [task for _, task in again] == ["d"]
    pair = examples.dialogue_contrasts(chains(e=(False, False), f=(True, True)), chains(e=(False, True), f=(True, False)))
    assert dict((task, name) for name, task in pair)["e"] == "the trained observer repairs what the pioneer answered"
    assert {task for _, task in pair} == {"e", "f"}


def test_the_viewer_marks_what_is_right_and_what_changed_and_escapes_text(tmp_path):
    sides = {"trio": chains(a=(False, True, False)), "malt": chains(a=(False, True, True))}
    table = examples.dialogue_viewer(sides, "a")
    assert table.count("✓") == 3 and table.count("✗") == 3 and table.count("(changed)") == 1
    assert "&lt;a&gt;" in table and "<a>" not in table and "&amp;" in table
    assert "was kept" in examples.dialogue_viewer(sides, "zz")
    rows = [turn for turns in sides["malt"].values() for turn in turns]
    (tmp_path / "dialogues.malt.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert examples.recorded_dialogues(tmp_path, "malt") == sides["malt"] and examples.recorded_dialogues(tmp_path, "x") == {}


# -- forecasts -------------------------------------------------------------------------------------------

FORECAST = {"task": "a", "prompt": "goal: x", "actions": ["click[1]", "click[2]"], "real": ["p 1\nred lamp $5", "over"],
        "imagined": ["p 1\nblue lamp $5", "over"]}  # fmt: skip


def test_only_what_differs_is_marked():
    left, right = examples.marked("p 1\nblue lamp $5", "p 1\nred lamp $5")
    assert left == 'p 1\n<del>blue</del> lamp $5'
    assert right == 'p 1\n<ins>red</ins> lamp $5'
    assert examples.marked("same text", "same text") == ("same text", "same text")
    assert examples.marked("", "a b")[1] == "<ins>a b</ins>"


def test_a_forecast_is_a_table_of_action_imagined_and_real():
    html = examples.forecast_html(FORECAST)
    assert html.count("<tr>") == 4 and html.count("<del>") == html.count("<ins>") == 1
    early = examples.forecast_html(FORECAST | {"imagined": ["over"]})
    assert early.count("<tr>") == 4


def test_texts_are_harmless_and_the_viewer_stands_alone():
    evil = FORECAST | {"prompt": "<script>x</script>", "imagined": ["<b>\x00", "<img src=x>"], "actions": ["<i>", "&"]}
    html = examples.forecast_viewer([evil])
    assert "<script" not in html and "<img" not in html and "<i>" not in html and "\x00" not in html
    assert foreign(html) == [] and "No forecast" in examples.forecast_viewer([])


def test_telling_forecasts_come_first_one_a_task():
    right = FORECAST | {"imagined": FORECAST["real"]}
    other = FORECAST | {"task": "b"}
    assert examples.differing_forecasts([right, FORECAST, other]) == [FORECAST, other]
    assert examples.differing_forecasts([right, FORECAST, other], most=1) == [FORECAST] and examples.differing_forecasts([]) == []


def test_prices_are_no_formulas():
    """JupyterLab sets ``$1313 … $78`` as a formula in whatever is neither code nor cut by an element's border."""
    assert examples.table_cell("a $5 <b> | `c`\n$6") == "a <span>&#36;</span>5 &lt;b&gt; \\| 'c' <span>&#36;</span>6"
    assert examples.table_cell("a\nb", 9) == "a ⏎ b" and examples.table_cell("$" * 9, 4).count("&#36;") == 4
    assert examples.code_cell("say `x|y`: $5 <b>") == r"`say 'x\|y': $5 <b>`"  # all but bars and backticks is as it is in code
    assert examples.one_line("for $5\nor $6") == "for <span>&#36;</span>5 or <span>&#36;</span>6"


def test_html_in_a_notebook_is_never_searched_for_formulas(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    record = {"task": "t", "prompt": "find it for $1313", "actions": ["a"], "real": ["costs $78"], "imagined": ["costs $80"]}
    show.display_parts([examples.forecast_viewer([record]), "about $x$"])
    assert shown[0].data.startswith('<div class="mathjax_ignore">') and "$1313" in shown[0].data and shown[0].data.endswith("</div>")
    assert shown[1].data == "about $x$"  # Markdown may hold formulas
