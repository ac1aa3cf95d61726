"""Charts to hover over say what the tables say: means, intervals, what was spent, claims; and pictures stand beside them."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace

import pytest

from common.evaluate.stats import t_interval
from common.report import figures, show
from common.report.hover import MIME, TEXT
from common.report.tables import mean_and_half
from common.track.store import Run, UnitSpec
from tests.report.test_figures import LADDER, row

CLAIM = {"id": "T1", "statement": "a is better than b", "better": "a", "worse": "b", "panel": "e/test", "profile": "cpu", "metric": "success",
         "effect": 0.1234, "ci_low": 0.05, "ci_high": 0.15, "n_seeds": 5, "verdict": "supported", "reason": ""}  # fmt: skip


def data(figure) -> list[dict]:
    return figure.hover["data"]["values"]


def test_a_ladder_s_marks_have_the_table_s_means_and_what_was_spent():
    rows = [*LADDER, row("more", 0, 0.25, steps=12000), row("more", 1, 0.75, steps=14000)]
    base, searched, more = sorted(data(figures.ladder(rows, ["base", "base+mcts", "more"])), key=lambda one: (one["variant"] == "more", one["variant"]))
    found = t_interval([0.1, 0.2, 0.3])
    assert (base["mean"], base["text"]) == (0.2, mean_and_half([0.1, 0.2, 0.3])) and base["note"].endswith(" · 3 × 50")
    assert (base["low"], base["high"]) == (pytest.approx(found.low, abs=1e-4), pytest.approx(found.high, abs=1e-4))
    assert base["interval"] == f"[{found.low:+.3f}, {found.high:+.3f}]" and (base["values"], base["numbers"]) == ([0.1, 0.2, 0.3], [0, 1, 2])
    assert "low" not in searched and "env_steps" not in base  # equal seeds have no interval; nothing was spent
    assert (more["panel"], more["mean"], more["env_steps"], more["seeds"]) == ("e/test", 0.5, "13,000", 2)


def test_a_ladder_s_tooltip_names_every_field_and_colours_are_the_figure_s():
    figure = figures.ladder([row("base", 0, 0.1, steps=5), row("base+mcts", 0, 0.2)], ["base", "base+mcts"])
    mean = next(layer["encoding"] for layer in figure.hover["spec"]["layer"] if layer["mark"].get("shape") == "diamond")
    titles = [one["title"] for one in mean["tooltip"]]
    assert titles == ["variant", "panel", "mean ± half", "95 % interval", "seeds", "tasks", "env steps, mean of seeds"]
    assert mean["color"]["scale"] == {"domain": ["base", "base+mcts"], "range": [figures.BLUE, figures.ORANGE]}
    assert mean["y"]["scale"]["domain"] == ["base+mcts", "base"]  # the lowest variant stands below
    assert {one["field"] for one in mean["tooltip"]} <= set().union(*data(figure)) and mean["x"]["scale"]["zero"]


def test_a_forest_s_marks_have_claim_effect_interval_and_verdict():
    other = {**CLAIM, "id": "T2", "effect": -0.2, "ci_low": None, "ci_high": None, "verdict": "undecided", "reason": "few seeds"}
    figure = figures.forest([CLAIM, other, {**CLAIM, "effect": None}])
    first, second = data(figure)
    assert (first["statement"], first["effect"], first["text"], first["interval"]) == ("a is better than b", 0.1234, "+0.123", "[+0.050, +0.150]")
    assert (first["low"], first["high"], first["verdict"], first["note"]) == (0.05, 0.15, "supported", "n = 5")
    assert second["reason"] == "few seeds" and "low" not in second and second["interval"].startswith("none")
    names = json.loads(figure.hover["layer"][1]["encoding"]["y"]["axis"]["labelExpr"].removesuffix("[datum.value]"))
    assert names == [["T1: a vs b · e/test"], ["T2: a vs b · e/test"]]


def test_curves_are_thinned_and_keep_value_and_line():
    points = [{"variant": "a", "round": r, "update": u, "metric": "loss", "value": float(u % 2)} for r in (1, 2) for u in range(1, 151)]
    drawn = data(figures.curves(points, ("loss",)))
    assert len(drawn) == 100 and drawn[0] == {"variant": "a", "round": 1, "update": 1, "metric": "loss", "value": 1.0, "x": 1, "mean": 0.5}
    assert (drawn[50]["round"], drawn[50]["update"], drawn[50]["x"]) == (2, 1, 151)
    short = data(figures.curves(points[:3], ("loss",)))
    assert [one["mean"] for one in short] == [one["value"] for one in short] == [1.0, 0.0, 1.0]


def test_no_chart_has_a_colour_that_a_dark_page_would_hide():
    many = [{"variant": f"v{k}", "round": 1, "update": u, "metric": "loss", "value": 1.0} for k in range(8) for u in (1, 2)]
    for figure in (figures.ladder(LADDER, ["base"]), figures.forest([CLAIM]), figures.curves(many, ("loss",))):
        text = json.dumps(figure.hover)
        assert figures.INK not in text and "#000" not in text and figure.hover["config"]["background"] == "transparent"
        assert figure.hover["usermeta"]["embedOptions"]["renderer"] == "svg"  # currentColor is the page's there; looked at in JupyterLab's dark theme
        assert figure.hover["config"]["text"]["color"] == TEXT


def test_a_figure_is_shown_with_its_chart_and_in_the_gallery_as_a_picture_alone(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda one, **how: shown.append((one, how)))
    show.show(figures.ladder(LADDER, ["base"]))
    show.show(figures.blank(1))
    monkeypatch.setenv(show.AS_PNG, "1")
    show.show(figures.ladder(LADDER, ["base"]))
    (chart, how), (plain, _), (picture, _) = shown
    assert set(chart) == {MIME, "image/svg+xml", "text/plain"} and how == {"raw": True} and chart["image/svg+xml"].startswith("<svg")
    assert "text/html" not in chart  # JupyterLab would prefer it
    assert set(plain) == {"image/svg+xml", "text/plain"} and picture.format == "png"


@pytest.mark.parametrize("figure", [figures.ladder([], ["base"]), figures.forest([]), figures.curves([], ("loss",))])
def test_where_nothing_was_measured_there_is_no_chart(figure):
    assert figure.hover is None


# -- progress of a run below its cell ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "stages", "event", "minutes", "line"), [
    (3.2, "", None, None, "3 s; time left unknown"),
    (30.0, "2/12", {"variant": "agent_q", "step": 40}, 2.0, "30 s; stages finished: 2/12; agent_q, step 40; about 1.5 min left"),
    (150.0, "11/12", {"variant": "base", "step": 1}, 2.0, "150 s; stages finished: 11/12; base, step 1; longer than the usual 2.0 min"),
])  # fmt: skip
def test_the_line_below_a_running_cell_has_stages_and_the_time_left(seconds, stages, event, minutes, line):
    assert show.progress_line(seconds, stages, event, minutes) == line


def test_progress_reads_the_run_s_folder(tmp_path, monkeypatch):
    unit = UnitSpec(paper="toy", env="e", seed=0, profile="smoke", params="{}", room="r", layers={}, data={}, base="b", pins="p")
    run, lines = Run.open(tmp_path, unit), []
    monkeypatch.setattr("IPython.display.display", lambda *_, **__: SimpleNamespace(update=lambda one: lines.append(one.data)))
    run.stage("one", lambda: 1)
    run.log("base", 7, {"loss": 1.0})
    with show.progress(run, every=0.01, minutes=3.0):
        end = time.monotonic() + 10
        while not lines and time.monotonic() < end:
            time.sleep(0.01)
    assert "stages finished: 1; base, step 7; about 3.0 min left" in lines[0] and lines[-1].startswith("ended after")
    run.close()
