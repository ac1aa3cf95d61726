"""The pipeline: stages list all that their results depend on, and DVC reruns what it should and nothing else."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from common.config import known_papers, load_spec
from common.lm.bases import has_base
from common.rows import read_metrics
from common.sweep.collect import write_summary
from common.sweep.plan import USER_ENVS, default_envs

ROOT = Path(__file__).resolve().parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
LAB = yaml.safe_load((ROOT / "params.yaml").read_text())
CLAIMS = """paper: toy
family: tree_search_dpo
source: nobody's
claims:
  - {id: D0.1, statement: the method beats its half, better: method, worse: half, metric: total, panels: [toy-v1/test],
     matched_on: updates, why: they are one run}
"""


def test_every_paper_and_every_shipped_base_model_has_its_stages():
    assert set(LAB["papers"]) == set(known_papers(ROOT))
    assert STAGES["run"]["matrix"] == STAGES["claims"]["matrix"] == {"paper": "${papers}"}
    assert STAGES["base"]["foreach"] == "${shipped}"
    shipped = yaml.safe_load((ROOT / "common/lm/bases.yaml").read_text())["shipped"]
    needed = {env for paper in LAB["papers"] for env in load_spec(ROOT, paper).envs if env not in USER_ENVS and has_base(env)}
    assert needed == set(shipped)


def test_no_stage_lists_files_by_hand():
    """A stage depends on folders, and on what belongs to its own paper."""
    for name, stage in STAGES.items():
        for dep in stage.get("do", stage).get("deps", ()):
            assert "${" in dep or (ROOT / dep).is_dir() or dep in ("requirements.lock", "papers/index.csv"), f"{name}: {dep}"


def test_a_run_depends_on_what_its_results_do_and_on_its_own_parameters():
    run = STAGES["run"]
    assert run["deps"] == ["results/identity/${item.paper}.json"]
    assert run["params"] == ["profile", "seeds", {"papers/${item.paper}/params.yaml": None}]  # workers are no part of any result
    for paper in LAB["papers"]:
        identity = json.loads((ROOT / "results/identity" / f"{paper}.json").read_text())
        assert set(identity["envs"]) == set(default_envs(load_spec(ROOT, paper))) and identity["pins"]


def test_what_dvc_shows_follows_from_the_tables(tmp_path):
    for table in sorted(ROOT.glob("results/*/metrics.jsonl")):
        paper = table.parent.name
        write_summary(read_metrics(table), ROOT / "papers" / paper / "claims.yaml", tmp_path)
        for name in ("summary.json", "ladder.csv"):
            assert (tmp_path / name).read_text() == (table.parent / name).read_text(), f"results/{paper}/{name}"
        summary = json.loads((tmp_path / "summary.json").read_text())
        assert summary and all(summary.values()), paper


def test_the_lock_names_every_table_as_it_is():
    """``dvc.lock`` is what a fresh clone is compared with."""
    lock = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"]
    for paper in LAB["papers"]:
        outs = {out["path"]: out["md5"] for out in lock[f"run@{paper}"]["outs"] + lock[f"claims@{paper}"]["outs"]}
        assert len(outs) == 4
        for path, md5 in outs.items():
            assert hashlib.md5((ROOT / path).read_bytes(), usedforsecurity=False).hexdigest() == md5, f"dvc commit is due: {path}"


def test_results_are_in_git_and_what_commands_make_again_is_not():
    ignored = subprocess.run(["git", "check-ignore", "models/x", "site", "runs/x", "results/x/metrics.jsonl", "results/identity/x.json"],
                             cwd=ROOT, capture_output=True, text=True).stdout.split()
    assert ignored == ["models/x", "site", "runs/x"]


def test_the_remote_is_inside_the_repository():
    config = (ROOT / ".dvc/config").read_text()
    assert re.search(r"url = \.\./dvc-store\b", config) and "analytics = false" in config


def test_a_truncated_object_of_the_store_is_not_taken_for_the_file(tmp_path, environment_of):
    """DVC does not look unless it is asked to."""
    environment = {**environment_of(tmp_path), "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    dvc(tmp_path, "init", "-q", environment=environment)
    shutil.copy(ROOT / ".dvc/config", tmp_path / ".dvc/config")
    (tmp_path / "weights").write_text("whole")
    dvc(tmp_path, "add", "-q", "weights", environment=environment)
    dvc(tmp_path, "push", "-q", environment=environment)
    (stored,) = [path for path in (tmp_path / "dvc-store").rglob("*") if path.is_file()]
    stored.chmod(0o644)
    stored.write_text("who")
    shutil.rmtree(tmp_path / ".dvc/cache")
    (tmp_path / "weights").unlink()
    with pytest.raises(AssertionError, match="(?s)failed to pull.*weights"):
        dvc(tmp_path, "pull", environment=environment)
    assert not (tmp_path / "weights").exists()


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.py")), ids=lambda path: path.name)
def test_saving_a_notebook_in_jupyter_leaves_its_source_as_it_is(path):
    import jupytext

    config = jupytext.config.load_jupytext_configuration_file(str(ROOT / "jupytext.toml"))
    notebook = jupytext.read(path, fmt="py:percent", config=config)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    assert jupytext.writes(notebook, fmt="py:percent", config=config) == path.read_text(encoding="utf-8")


def dvc(root: Path, *arguments: str, environment: dict[str, str]) -> str:
    result = subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=root, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment)
    assert result.returncode == 0, result.stdout
    return result.stdout


def test_dvc_reruns_what_changed_and_nothing_else(tmp_path, new_lab, environment_of):
    """The project's own stages on the small laboratory: twice, a notebook that was saved, a comment, a seed, a parameter, a clone."""
    root = new_lab(tmp_path / "lab")
    environment = {**environment_of(root), "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    stages = {name: STAGES[name] for name in ("attest", "run", "claims")}
    stages["attest"] = stages["attest"] | {"cmd": "python -m common attest rollouts"}  # the toy reaches no other probe
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (root / "papers/toy/claims.yaml").write_text(CLAIMS)
    method = root / "papers/toy/method.py"
    text = method.read_text().replace('variant="method"', "variant=name").replace("value=total", "value=value")
    method.write_text(text.replace("cost=cost)]", 'cost=cost) for name, value in (("method", total), ("half", total / 2))]'))
    for name in (".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, root / name)
    for command in (["init", "-q"], ["config", "user.email", "a@b.c"], ["config", "user.name", "a"]):
        subprocess.run(["git", *command], cwd=root, check=True, env=environment)
    dvc(root, "init", "-q", environment=environment)
    shutil.copytree(ROOT / ".dvc/plots", root / ".dvc/plots")
    shutil.copy(ROOT / ".dvc/config", root / ".dvc/config")

    def repro(*targets: str) -> list[str]:
        identity = dvc(root, "repro", *targets, environment=environment)
        assert "git add" not in identity  # dvc.lock and tables are staged (core.autostage) instead of listed after every command
        return re.findall(r"Running stage '([^']+)'", identity)

    def units() -> set[str]:
        return {path.parent.name for path in root.glob("runs/toy/*/DONE")}

    def commit() -> None:
        subprocess.run("git add -A && git commit -qm state", shell=True, cwd=root, check=True, env=environment)

    assert repro() == ["attest", "run@toy", "claims@toy"]
    table = root / "results/toy/metrics.jsonl"
    assert len(table.read_text().splitlines()) == 4 and len(units()) == 2
    (root / "notebooks/toy.ipynb").write_text("{}")  # opened and saved
    assert repro() == [] and "up to date" in dvc(root, "status", environment=environment)
    commit()

    method.write_text(method.read_text() + "\n# a comment changes the file but no result\n")
    assert repro() == ["attest"]

    params = root / "params.yaml"
    params.write_text(params.read_text().replace("[0, 1]", "[0, 1, 2]"))
    before, rows = units(), table.read_text()
    assert repro("run@toy") == ["run@toy"] and len(units() - before) == 1
    assert set(rows.splitlines()) < set(table.read_text().splitlines())
    assert repro() == ["claims@toy"]
    commit()

    subprocess.run(["git", "clone", "-q", str(root), str(tmp_path / "clone")], check=True, env=environment)
    shutil.copytree(root / "data", tmp_path / "clone/data")  # what `dvc pull` brings
    shutil.copytree(root / "models", tmp_path / "clone/models")
    assert "up to date" in dvc(tmp_path / "clone", "status", environment=environment)

    shown = dvc(root, "exp", "run", "-S", "papers/toy/params.yaml:parameters.steps.default=2", "run@toy", environment=environment)
    assert "Running stage 'run@toy'" in shown and "Ran experiment" in shown
    assert table.read_text() != rows
    moved = dvc(root, "params", "diff", environment=environment)
    assert "parameters.steps.default" in moved and re.search(r"\b4\s+2\b|4 *\| *2", moved), moved
    assert "method" in dvc(root, "metrics", "diff", environment=environment)
    assert "toy-v1/test" in dvc(root, "metrics", "show", environment=environment)
    page = dvc(root, "plots", "show", environment=environment).strip().splitlines()[-1].removeprefix("file://")
    assert "95 % interval" in Path(page).read_text()
    assert "run@toy" in dvc(root, "dag", environment=environment)
