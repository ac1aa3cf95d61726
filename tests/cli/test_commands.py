"""The command line: typos before anything slow is imported, what repro says, damaged stores."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from common.cli import commands
from common.cli.commands import main_variants
from common.config import known_papers
from common.evaluate.claims import headline_metric
from common.rows import read_metrics
from common.sweep import collect
from common.sweep.board import Progress

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("arguments", "message"), [
    (["run", "--paper", "tooy"], 'unknown paper "tooy"; did you mean "toy"?'),
    (["run", "--paper", "toy", "--profile", "cpuu"], 'unknown profile "cpuu"; did you mean "cpu"?'),
    (["run", "--paper", "toy", "--seeds", "a"], 'seeds: "a" is not a list of seeds'),
    (["sweep", "--paper", "toy", "--grid", "stepz=1"], 'unknown parameter "stepz"; did you mean "steps"?'),
    (["sweep", "--paper", "toy", "--grid", "steps=1,2", "--panel", "test"], "--panel belongs to a search; add --search METRIC"),
    (["sweep", "--paper", "toy", "--range", "steps=1:4", "--search", "m", "--draw", "random"], "draw is 'random' beside search"),
    (["sweep", "--paper", "toy", "--range", "steps=1:4", "--search", "m", "--points", "3"], "says which variant's m to search for"),
    (["sweep", "--paper", "toy", "--range", "steps=1:4", "--search", "m", "--points", "3", "--variant", "v", "--panel", "test"],
     'panel is "test", a test panel, but settings are chosen where no claim is judged; use validation or train'),
    (["repro", "--papers", "tooy"], 'unknown paper "tooy"; did you mean "toy"?'),
    (["repro", "--profile", "cpuu"], 'unknown profile "cpuu"; did you mean "cpu"?'),
    (["claims", "--paper", "tooy"], 'unknown paper "tooy"; did you mean "toy"?'),
    (["base", "--env", "shop-v2"], 'unknown environment "shop-v2"; did you mean "shop-v1"?'),
    (["base", "--env", "gsm8k-v1"], "gsm8k-v1 has no base model"),
    (["traces", "tooy"], 'unknown paper "tooy"; did you mean "toy"?'),
    (["traces", "toy"], "no unit of toy is finished here at profile cpu"),
    (["export", "toy", "--out", "crate"], "no results of toy are published"),
    (["publish-model", "toy", "--env", "toy-v1"], "toy in toy-v1 is not finished here at profile cpu"),
])
def test_a_typo_stops_before_anything_slow_is_imported(lab, arguments, message):
    code = ("import sys; sys.argv[1:] = %r\nfrom common.__main__ import main\ncode = main()\n"
            "slow = {'torch', 'mlflow', 'papermill', 'jupytext', 'dvc', 'transformers'} & set(sys.modules)\n"
            "assert not slow, slow\nsys.exit(code)") % arguments
    result = subprocess.run([sys.executable, "-c", code], cwd=lab, text=True, capture_output=True,
                            env={"LAB_ROOT": str(lab), "PYTHONPATH": str(lab), "PATH": ""})
    assert result.returncode == 2, result.stderr
    assert message in result.stderr and len(result.stderr.strip().splitlines()) == 1
    assert not (lab / "runs").exists()


@pytest.mark.parametrize("paper", known_papers(ROOT))
def test_parameters_of_every_paper_are_checked_before_anything_slow_is_imported(paper):
    """The file of a method may import what it likes, and name a field like something it imports."""
    code = ("import sys; sys.argv[1:] = ['sweep', '--paper', %r, '--grid', 'nothing_like_it=1', '--dry-run']\n"
            "from common.__main__ import main\ncode = main()\n"
            "slow = {'torch', 'mlflow', 'papermill', 'jupytext', 'dvc', 'transformers'} & set(sys.modules)\n"
            "assert not slow, slow\nsys.exit(code)") % paper
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True)
    assert result.returncode == 2, result.stderr
    assert 'unknown parameter "nothing_like_it"' in result.stderr and len(result.stderr.strip().splitlines()) == 1


def test_an_unwritable_run_store_is_one_sentence(lab, run_in):
    (lab / "runs").write_text("a file where the folder should be")
    result = run_in(lab, "run", "--paper", "toy")
    assert result.returncode == 2 and "error: cannot write" in result.stdout and "runs" in result.stdout
    assert "Traceback" not in result.stdout


def test_progress_prints_one_line_per_period_when_there_is_no_terminal(capsys):
    progress = Progress(5, "toy", stream=sys.stdout, every=0.0)
    progress.update(2, ["shop-v1 seed 0: dpo step 3"], 1.5)
    quiet = Progress(5, "toy", stream=sys.stdout, every=1000.0)
    quiet.update(2, [], None)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("toy: 2 of 5 units done, 3 remaining, ~1.5 min left") and "dpo step 3" in lines[0]


def test_repro_recomputes_compares_and_changes_no_tracked_file(lab, run_in):
    assert run_in(lab, "run", "--paper", "toy").returncode == 0  # publishes seeds 0 and 1
    (lab / "notebooks/90_report.py").write_text("# %%\nprint('a report')\n")
    table, params = lab / "results/toy/metrics.jsonl", (lab / "params.yaml").read_bytes()
    published = table.read_bytes()
    shutil.rmtree(lab / "runs")
    dry = run_in(lab, "repro", "--papers", "toy", "--seeds", "0", "--dry-run")
    assert dry.returncode == 0 and "repro: seeds 0 of toy: 1 units, 0 finished, 1 to run" in dry.stdout and not (lab / "runs/toy").exists()
    again = run_in(lab, "repro", "--papers", "toy")
    assert "toy toy-v1 seed 0 cpu: all 1 values identical" in again.stdout and "2 succeeded" in again.stdout, again.stdout
    assert table.read_bytes() == published and (lab / "params.yaml").read_bytes() == params

    rows = [json.loads(line) for line in published.decode().splitlines()]
    for row in rows:
        row["value"] += 1e6
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    other = run_in(lab, "repro", "--papers", "toy")
    assert other.returncode == 1 and "0 as published, 2 with other numbers than published" in other.stdout, other.stdout


MAIN = {"agent_q": "agent_q", "agent_r": "agent_r", "b_star": "bstar", "confidence_critique": "confidence", "cory": "cory", "four_habits": "rl_backtrack", "malt": "malt+vote", "optima": "isft_dpo", "pbt": "pbt", "rest_mcts": "prm1+mcts", "rise": "rise_self",
        "s3c_math": "s3c", "score": "score", "spin": "spin_it1", "spo": "spo", "spr": "spr", "sppo": "sppo", "suboptimal_on_policy": "dpo",
        "vpt": "rl_kl", "webevolver": "webevolver+d2", "wkm": "task+gamma=0.7"}  # fmt: skip


@pytest.mark.parametrize(("paper", "main"), MAIN.items())
def test_a_sweep_is_about_the_method_and_not_about_a_control(paper, main):
    """The top of a paper's claims may be a control: SCoRe's ``repeat`` never changes its answer, so its delta is 0."""
    claims = ROOT / "papers" / paper / "claims.yaml"
    metric = headline_metric(claims)
    rows = [row for path in (ROOT / "results" / paper).glob("metrics*.jsonl") for row in read_metrics(path)]
    found = main_variants(claims, metric, rows)
    assert found[0] == main
    values = {name: {row.value for row in rows if (row.variant, row.metric) == (name, metric)} for name in found}
    assert all(len(seen) != 1 for seen in values.values())


def test_a_constant_control_is_never_the_best_one():
    claims = ROOT / "papers/score/claims.yaml"
    rows = read_metrics(ROOT / "results/score/metrics.jsonl")
    assert "repeat" in main_variants(claims, "delta") and "repeat" not in main_variants(claims, "delta", rows)


@pytest.mark.parametrize(("paper", "metric", "line"), [
    ("spo", "exploitability", "lowest exploitability of spo on p: 0.0300 at lr=0.3"),
    ("rise", "success", "highest success of rise_self on p: 0.0700 at lr=1")])  # fmt: skip
def test_a_sweep_names_the_lowest_value_where_the_claims_say_that_less_is_better(monkeypatch, tmp_path, paper, metric, line):
    monkeypatch.setattr(collect, "means", lambda root, planned, metric: {
        ("p", name): [({"lr": 1}, 0.07), ({"lr": 0.3}, 0.03)] for name in ("spo", "rise_self")})  # fmt: skip
    assert commands._best(ROOT, [SimpleNamespace(paper=paper)], tmp_path, metric=metric, variant=None) == [line]
    assert (tmp_path / "parallel.p.png").exists()


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="this machine has a GPU")
def test_what_is_sized_for_a_gpu_does_not_start_without_one(lab, run_in):
    """Whether the model is there or not: to fetch it would be in vain."""
    chat = f"some/chat@{40 * '0'}"
    for name, old, new in (("method.py", "    steps: int\n", "    steps: int\n    model: str\n"),
                           ("params.yaml", "parameters:\n", f"parameters:\n  model: {{default: nano, gpu: {chat}, smol: {chat}, source: ours}}\n")):
        file = lab / "papers/toy" / name
        file.write_text(file.read_text().replace(old, new, 1))
    words = "profile: gpu is sized for a GPU but torch finds none on this machine; take --profile smol"
    for _ in range(2):
        done = run_in(lab, "run", "--paper", "toy", "--profile", "gpu")
        assert done.returncode == 2 and words in done.stdout, done.stdout
        assert list((lab / "runs").glob("toy/*")) == []
        weights = lab / "pretrained" / chat.replace("/", "--") / "weights.json"
        weights.parent.mkdir(parents=True, exist_ok=True)
        weights.write_text("{}")
    assert "to run" in run_in(lab, "run", "--paper", "toy", "--profile", "gpu", "--dry-run").stdout  # planning needs none


@pytest.mark.parametrize(("arguments", "hidden"), [(["traces", "tooy"], "1"), (["pretrained", "tooy"], "None")])
def test_only_downloads_draw_the_libraries_bars(lab, arguments, hidden):
    code = (f"import os, sys; sys.argv[1:] = {arguments!r}\nfrom common.__main__ import main\nmain()\n"
            "print(os.environ.get('HF_HUB_DISABLE_PROGRESS_BARS'))")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], cwd=lab, text=True, capture_output=True,
                          env={"LAB_ROOT": str(lab), "PYTHONPATH": str(lab), "PATH": ""})
    assert done.stdout == f"{hidden}\n", done.stderr
