"""What a sweep shows while it runs: the board in the run store, the table in a terminal, and a sweep nobody waits for."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from jupyter_client import KernelManager

from common.config import ConfigError
from common.report.sweeps import sweep_view, table_html
from common.sweep.board import COLUMNS, Board, Reader, find_board, headline, read_board, start_in_background, visible
from common.sweep.plan import plan
from common.track.store import Run, unit_path


def lines_of(root: Path, board: dict, **options) -> list[dict[str, str]]:
    return [dict(zip(COLUMNS, line, strict=True)) for line in Reader(root).lines(board, **options)]


def begun(root: Path) -> tuple[Board, list]:
    """A board of three units, the first of which has begun: two stages and two events."""
    planned = plan(root, "toy", seeds=(0, 1, 2), profile="cpu", grid=[{"steps": 5}])
    board = Board(root, root / "runs/sweeps/toy-x", paper="toy", command="python -m common sweep …", metric="total")
    board.add(planned)
    board.start(0)
    run = Run.open(root, planned[0].unit)
    for step in range(2):
        run.stage(f"step{step}", lambda: 1)
        run.log("method", step, {"a": 1.0, "test/total": 10.0 + step, "train/loss": 0.5})
    run.close()
    return board, planned


def test_a_running_unit_shows_its_stages_and_the_metric_of_its_newest_event(lab):
    board, _ = begun(lab)
    first, second, _ = lines_of(lab, board.snapshot())
    assert (first["state"], first["unit"], first["stages"]) == ("running", "toy-v1 seed 0 steps=5", "2")
    assert (first["at"], first["latest"]) == ("method 1", "test/total 11")
    assert (second["state"], second["stages"], second["at"]) == ("waiting", "", "")
    assert lines_of(lab, board.snapshot() | {"metric": None})[0]["latest"] == "train/loss 0.5"


def test_stages_and_time_left_are_those_of_a_finished_unit_of_the_same_kind(lab):
    board, planned = begun(lab)
    folder = unit_path(lab, planned[1].unit) / "stages"
    folder.mkdir(parents=True)
    for step in range(4):
        (folder / f"step{step}.json").write_text("1\n")
    board.start(1)
    board.end(1, "finished")
    board.entries[1].minutes = 100.0
    first, second, _ = lines_of(lab, board.snapshot())
    assert second["stages"] == "4/4" and float(first["left"]) == pytest.approx(100.0, abs=1.0)
    assert first["stages"] == "2" or first["stages"] == "2/4"
    reader = Reader(lab)
    reader.lines(board.snapshot())
    assert reader.lines(board.snapshot())[0][2] == "2/4"


def test_the_board_is_read_by_others_and_knows_when_its_owner_is_gone(lab):
    begun(lab)
    path = find_board(lab, "toy")
    board, living = read_board(path)
    assert living and headline(board, living=True) == "toy: 3 units, 2 waiting, 1 running"
    path.write_text(json.dumps(board | {"owner": board["owner"] | {"start": "another time"}}))
    board, living = read_board(path)
    assert not living and lines_of(lab, board, living=False)[0]["state"] == "interrupted"
    assert headline(board, living=False) == (
        "toy: 3 units, 2 waiting, 1 interrupted; nobody runs it now: python -m common sweep …")


def test_no_board_is_one_sentence(lab):
    with pytest.raises(ConfigError, match="no sweep has run here yet; start one"):
        find_board(lab)
    begun(lab)
    with pytest.raises(ConfigError, match='no sweep in runs/sweeps begins with "score"; known: toy-x'):
        find_board(lab, "score")


def test_a_table_too_long_for_the_screen_keeps_what_runs_and_what_failed():
    lines = [(state, str(i)) for i, state in enumerate(
        ["finished", "failed", "finished", "running", "waiting", "waiting", "finished"])]
    assert visible(lines, 3) == ([lines[1], lines[3], lines[4]], 4)
    assert visible(lines, 5) == ([lines[1], lines[3], lines[4], lines[5], lines[6]], 2)
    assert visible(lines, 9) == (lines, 0)


def test_a_page_shows_texts_as_they_are():
    assert "&lt;b&gt;" in table_html("head", [("failed", "<b>", "", "", "", "", "")])


@pytest.fixture
def slow_lab(tmp_path, new_lab):
    root = new_lab(tmp_path / "lab")
    text = (root / "papers/toy/params.yaml").read_text().replace("pause: {default: 0.0", "pause: {default: 1.5")
    (root / "papers/toy/params.yaml").write_text(text)
    return root


def in_a_terminal(root: Path, environment: dict[str, str], *arguments: str, stop_after: str = "") -> tuple[str, int]:
    """Run a command on a pseudo-terminal; Ctrl-C is typed when ``stop_after`` was shown. What it wrote, and its code."""
    main, side = pty.openpty()
    process = subprocess.Popen([sys.executable, "-m", "common", *arguments], cwd=root, stdin=side, stdout=side, stderr=side,
                               env={**environment, "TERM": "xterm", "COLUMNS": "140", "LINES": "40"}, start_new_session=True)
    os.close(side)
    shown, deadline = b"", time.monotonic() + 120
    while time.monotonic() < deadline:
        if select.select([main], [], [], 0.2)[0]:
            try:
                chunk = os.read(main, 65536)
            except OSError:  # the other side is closed
                break
            if not chunk:
                break
            shown += chunk
            if stop_after and stop_after.encode() in shown:
                process.send_signal(signal.SIGINT)
                stop_after = ""
    os.close(main)
    return shown.decode(errors="replace"), process.wait(timeout=30)


def test_a_terminal_shows_a_table_and_is_as_before_after_ctrl_c(slow_lab, environment_of):
    root, command = slow_lab, ("sweep", "--paper", "toy", "--grid", "steps=3,4", "--workers", "2")
    shown, code = in_a_terminal(root, environment_of(root), *command, stop_after="method 0")
    assert code == 130 and "to resume: python -m common sweep" in shown, shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1  # the cursor was hidden, and is back
    assert shown.index("\x1b[?25h") < shown.index("interrupted (SIGINT)")
    board, _ = read_board(find_board(root))
    assert {one["state"] for one in board["units"]} <= {"interrupted", "finished"} and len(board["units"]) == 2

    shown, code = in_a_terminal(root, environment_of(root), *command)
    assert code == 0 and "0 failed" in shown, shown
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown[shown.rindex("toy: 2 units"):])
    assert re.search(r"(finished|restored).*steps=3.*3/3", last) and re.search(r"(finished|restored).*steps=4.*4", last), last


CELL = """
from common.report.sweeps import sweep_view
from common.sweep.board import start_in_background
started = start_in_background("--paper toy --grid steps=3,4 --workers 1")
sweep_view(started)
"""


def test_a_sweep_started_by_a_cell_outlives_the_kernel_and_is_found_again(slow_lab, environment_of):
    root, messages = slow_lab, []
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(root), env=environment_of(root))
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        client.execute_interactive(CELL, timeout=60, output_hook=messages.append)
        shown = [message["content"]["data"] for message in messages if message["msg_type"] == "execute_result"]
        assert shown and "toy: 2 units" in shown[0]["text/plain"] and "<table>" in shown[0]["text/html"], messages
        if "application/vnd.jupyter.widget-view+json" in shown[0]:  # it follows the sweep while the kernel does nothing
            while "toy: 2 units" not in str(client.get_iopub_msg(timeout=30)["content"].get("data", "")):
                pass
    finally:
        client.stop_channels()
        manager.shutdown_kernel()  # politely: a kernel that is asked to end takes all its descendants along
    deadline = time.monotonic() + 120
    while not list(root.glob("runs/sweeps/*/board.json")) and time.monotonic() < deadline:
        time.sleep(0.1)
    view = sweep_view("toy", root=root)
    assert view.look()[2], view
    bundle = view._repr_mimebundle_()
    assert "toy: 2 units" in bundle["text/plain"] and "<table>" in bundle["text/html"]
    if "application/vnd.jupyter.widget-view+json" in bundle:
        assert "toy: 2 units" in view._widget.value
    while view.look()[2] and time.monotonic() < deadline:
        time.sleep(0.2)
    assert view.look()[0] == "toy: 2 units, 2 finished; it is over", view
    assert "2 succeeded" in next(root.glob("runs/sweeps/logs/*.log")).read_text()
    again = sweep_view(root=root)  # a notebook opened again
    assert "2 finished; it is over" in repr(again) and "widget" not in str(again._repr_mimebundle_().keys())


def test_a_mistake_in_a_background_sweep_is_shown(lab, monkeypatch, environment_of):
    monkeypatch.setenv("PYTHONPATH", str(lab))
    started = start_in_background("--paper tooy --grid steps=1,2", root=lab)
    with pytest.raises(ConfigError, match='unknown paper "tooy"; did you mean "toy"'):
        sweep_view(started)
