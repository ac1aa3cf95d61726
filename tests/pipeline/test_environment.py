"""pyproject.toml, the locks and environment.yml say the same; the Makefile and .ci/run hold together."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from common.cli.doctor import LOCKS, drift, lock_pins

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_direct_dependency_is_pinned_as_in_the_lock():
    for requirements, lock in ((PROJECT["dependencies"], LOCKS[0]), (PROJECT["optional-dependencies"]["tools"], LOCKS[1])):
        locked = {normal(name): version for name, version in lock_pins(ROOT, lock).items()}
        for requirement in requirements:
            name, _, version = requirement.partition("==")
            assert locked.get(normal(name)) == version, requirement


def test_the_locks_are_pins_only():
    lines = [line for lock in LOCKS for line in (ROOT / lock).read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9.]*", line) for line in lines)
    names = [normal(line.partition("==")[0]) for line in lines]
    assert len(set(names)) == len(names)
    assert not [name for name in names if name.startswith("nvidia") or name == normal(PROJECT["name"])]
    assert "torch==2.13.0" in lines


def test_the_installed_environment_is_the_lock():
    assert drift(ROOT) == []


def test_conda_brings_python_and_the_lock_the_rest():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = [entry for entry in conda["dependencies"] if isinstance(entry, dict)]
    assert pip == [{"pip": [f"-r {lock}" for lock in LOCKS]}]
    python = [entry for entry in conda["dependencies"] if str(entry).startswith("python=")]
    assert python == ["python=3.11"] and PROJECT["requires-python"] == ">=3.11.5"
    assert conda["name"] == PROJECT["name"]


def test_every_pinned_package_is_made_for_the_oldest_python_that_is_promised():
    least = PROJECT["requires-python"].removeprefix(">=")
    needed = {name: metadata.metadata(name).get("Requires-Python") for lock in LOCKS for name in lock_pins(ROOT, lock)}
    assert [f"{name} {spec}" for name, spec in needed.items() if spec and least not in SpecifierSet(spec)] == []
    assert f"sys.version_info < ({least.replace('.', ', ')})" in (ROOT / "Makefile").read_text()


def test_extras_are_never_in_the_default():
    default = {normal(requirement.partition("==")[0]) for requirement in PROJECT["dependencies"]}
    optional = PROJECT["optional-dependencies"]
    extras = {normal(re.split("[=<>]", name)[0]) for which in optional for name in optional[which] if which != "tools"}
    assert set(PROJECT["optional-dependencies"]) == {"tools", "reasoning-gym", "math-verify", "minigrid", "browser", "ray", "postgres",
                                                     "four-bit", "textworld-express"}  # fmt: skip
    assert not extras & default


def test_make_help_lists_every_target():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split())
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {line.split()[1] for line in shown.splitlines() if line.startswith("  make ")} == targets
    assert {"setup", "repro", "test", "smoke", "lab", "sweep", "report", "mlflow", "clean", "help"} <= targets


def test_an_old_python_is_refused_in_one_sentence(tmp_path):
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    for name in ("Makefile", *LOCKS, "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    result = subprocess.run(["make", "setup", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode != 0 and "Python 3.11.5 or newer is needed" in result.stderr
    assert not (tmp_path / ".venv").exists()


def test_ci_is_valid_and_executable():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text()
    assert text.index("make test") < text.index("make smoke") and "set -euo pipefail" in text


@pytest.mark.parametrize(("line", "counts"), [
    ("412 passed, 3 skipped in 60.1s (0:01:00)", "412 passed, 0 failed, 3 skipped"),
    ("== 2 failed, 7 passed in 1s ==", "7 passed, 2 failed, 0 skipped"),
    ("", "0 passed, 0 failed, 0 skipped"),
])
def test_ci_counts_the_tests(tmp_path, line, counts):
    tail = (ROOT / ".ci" / "run").read_text().partition("make smoke\n")[2]
    (tmp_path / "log").write_text(f"...\n{line}\n")
    shown = subprocess.run(["bash", "-euo", "pipefail", "-c", f'log="{tmp_path}/log"\n{tail}'], capture_output=True,
                           text=True, check=True).stdout
    assert shown.strip() == counts
