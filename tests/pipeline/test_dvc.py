"""The pipeline: stages list all that their results depend on, and DVC reruns what it should and nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from common.config import load_lab, load_spec
from common.envs import env_file
from common.sweep.inputs import ENTRY
from common.sweep.identity import entries
from common.sweep.plan import default_envs
from common.track.code import code_hash

ROOT = Path(__file__).resolve().parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
LAB = yaml.safe_load((ROOT / "params.yaml").read_text())


def deps(stage: str, **item: str) -> list[str]:
    found = STAGES[stage]["deps"]
    for name, value in item.items():
        found = [dep.replace(f"${{item.{name}}}", value) for dep in found]
    assert not [dep for dep in found if "${" in dep]
    return found


def uncovered(files: tuple[str, ...], listed: list[str]) -> list[str]:
    return [file for file in files if not any(file == dep or file.startswith(dep + "/") for dep in listed)]


@pytest.mark.parametrize("paper", load_lab(ROOT).papers)  # the others are not in the pipeline
def test_a_run_depends_on_all_code_its_units_can_reach(paper):
    spec = load_spec(ROOT, paper)
    listed = deps("run", paper=paper)
    for env in default_envs(spec):
        assert uncovered(code_hash(entries(spec, env), ROOT).files, listed) == []
        assert env in LAB["envs"]
    assert {"data", "models"} <= set(listed)
    assert {f"papers/{paper}", "requirements.lock"} <= set(listed)


def test_a_base_model_depends_on_all_code_it_can_reach():
    assert STAGES["base"]["matrix"] == {"env": "${envs}"}
    for env in LAB["envs"]:
        listed = deps("base", env=env)
        assert uncovered(code_hash([ENTRY, env_file(env)], ROOT).files, listed) == []
        assert {f"data/{env}", "requirements.lock"} <= set(listed)


def test_an_uncovered_file_would_be_seen():
    assert uncovered(("common/rng.py", "common/new/x.py", "common/lm2/y.py"), ["common/rng.py", "common/lm"]) == [
        "common/new/x.py", "common/lm2/y.py"]


def test_workers_are_no_parameter_of_a_run_but_seeds_and_profile_are():
    assert STAGES["run"]["params"] == ["profile", "seeds"]
    assert STAGES["run"]["matrix"] == {"paper": "${papers}"}


def test_claims_and_report_wait_for_every_paper():
    tables = [f"results/{paper}/metrics.jsonl" for paper in LAB["papers"]]
    tables += [path.relative_to(ROOT).as_posix() for path in ROOT.glob("results/*/metrics*.jsonl")]
    assert set(tables) <= set(STAGES["claims"]["deps"])
    assert set(tables) <= set(STAGES["report"]["deps"])
    assert {f"papers/{paper}/claims.yaml" for paper in LAB["papers"]} <= set(STAGES["claims"]["deps"])


def test_tables_are_in_git_and_the_stamp_is_not():
    outs = STAGES["run"]["outs"]
    assert outs == [{"results/${item.paper}/metrics.jsonl": {"cache": False}}, "runs/.stamps/${item.paper}.json"]
    ignored = subprocess.run(["git", "check-ignore", "runs/.stamps/x.json", "models/x", "site",
                              "results/x/metrics.jsonl"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    assert ignored == ["runs/.stamps/x.json", "models/x", "site"]


def test_the_remote_is_inside_the_repository():
    config = (ROOT / ".dvc/config").read_text()
    assert re.search(r"url = \.\./dvc-store\b", config) and "analytics = false" in config


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


def test_dvc_reruns_what_changed_and_nothing_else(tmp_path, new_lab, environment_of, run_in):
    """The project's own run stage on the small laboratory: twice, a saved notebook, a comment, a seed, a clone."""
    root = new_lab(tmp_path / "lab")
    environment = {**environment_of(root), "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"run": STAGES["run"]}}))
    for name in (".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, root / name)
    for command in (["git", "init", "-q"], ["git", "add", "-A"]):
        subprocess.run(command, cwd=root, check=True, env=environment)
    dvc(root, "init", "-q", environment=environment)

    first = run_in(root, "repro")
    assert first.returncode == 0 and first.stdout.endswith("rerun: run@toy\n"), first.stdout
    table = root / "results/toy/metrics.jsonl"
    assert len(table.read_text().splitlines()) == 2
    (root / "notebooks/toy.ipynb").write_text("{}")  # opened and saved
    second = run_in(root, "repro").stdout
    assert "Running stage" not in second and "Nothing had to be rerun" in second
    assert "up to date" in dvc(root, "status", environment=environment)

    before, rows = {path.parent.name for path in root.glob("runs/toy/*/DONE")}, table.read_text()
    method = root / "papers/toy/method.py"
    method.write_text(method.read_text() + "\n# a comment changes the file but no result\n")
    params = root / "params.yaml"
    params.write_text(params.read_text().replace("[0, 1]", "[0, 1, 2]"))
    again = dvc(root, "repro", environment=environment)
    assert "3 units, 2 finished, 1 to run" in again and "1 succeeded, 0 failed, 2 skipped" in again
    assert len({path.parent.name for path in root.glob("runs/toy/*/DONE")} - before) == 1
    assert table.read_text().startswith(rows)

    # A clone has the table but not the stamp: it must compute, not believe.
    shutil.rmtree(root / "runs")
    shutil.rmtree(root / ".dvc/cache")
    changed = [line for line in dvc(root, "status", environment=environment).splitlines() if ":       " in line]
    assert [line.split(":")[0].strip() for line in changed] == ["not in cache"]
    lock, rows = (root / "dvc.lock").read_text(), table.read_text()
    assert "3 succeeded" in dvc(root, "repro", environment=environment)
    assert (root / "dvc.lock").read_text() == lock and table.read_text() == rows
