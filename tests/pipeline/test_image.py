"""The recipe of the CPU image and the page that shows it: its files, commands and Python are those of the project. Nothing is built."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from common.cli.doctor import LOCKS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/install.md").read_text(encoding="utf-8")
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def instructions(text: str) -> list[tuple[str, str]]:
    """Keyword and rest of every instruction; continued lines are joined."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


RECIPE = instructions((ROOT / "Dockerfile").read_text(encoding="utf-8"))


def given(keyword: str) -> list[str]:
    return [rest for name, rest in RECIPE if name == keyword]


def test_its_python_is_that_of_conda_and_allowed_by_the_project():
    (image,) = given("FROM")
    version = re.fullmatch(r"python:(\d+\.\d+)-slim-\w+", image)[1]
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert f"python={version}" in conda
    least = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
    assert tuple(map(int, version.split("."))) >= tuple(map(int, least.split(".")[:2]))  # the image has the newest release of the series


def test_every_file_it_names_exists_and_both_locks_are_installed():
    sources = [name for rest in given("COPY") for name in rest.split()[1:-1]]
    assert sources == [*LOCKS, "."] and all((ROOT / name).exists() for name in sources)
    (install,) = [rest for rest in given("RUN") if "pip install" in rest]
    assert re.findall(r"-r (\S+)", install) == list(LOCKS)


def test_it_runs_as_a_user_without_roots_rights():
    names = [name for name, _ in RECIPE]
    assert given("USER") == ["lab"] and names.index("USER") < names.index("COPY")
    assert all("--chown=lab:lab" in rest for rest in given("COPY")) and "sudo" not in str(RECIPE)


def test_its_commands_are_the_readmes():
    targets = set(re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split())
    (command,) = given("CMD")
    assert yaml.safe_load(command) == ["make", "repro"]
    called = {name for rest in given("RUN") if "apt-get" not in rest for name in re.findall(r"\bmake (\w+)", rest)}
    assert called == {"data"} <= targets
    readme = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:30])
    assert {"repro", "lab"} <= targets and all(f"make {name}" in readme for name in ("repro", "lab"))
    runs = [shlex.split(line, comments=True) for line in PAGE.splitlines() if line.startswith("    docker run")]
    inside = [words[words.index("agent-paper-lab") + 1 :] for words in runs]
    assert inside[:2] == [[], ["make", "lab"]] and inside[2][:3] == ["python", "-m", "common"]


@pytest.mark.parametrize("name", ["runs", "mlruns", ".venv", "data", "models", "site", ".dvc/cache"])
def test_what_belongs_to_a_machine_stays_out(name):
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert name in lines


def test_nothing_that_git_tracks_stays_out():
    """Patterns as Docker reads them: from the root, unless they begin with ``**/``."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    out = [re.compile(("(.*/)?" if line.startswith("**/") else "") + re.escape(line.removeprefix("**/")).replace(r"\*", "[^/]*")
                      + ("" if line.endswith("/") else "(/|$)")) for line in lines]  # fmt: skip
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("needs git to know which files belong to the project")
    assert not [path for path in listed.stdout.splitlines() for pattern in out if pattern.match(path)]
    assert any(pattern.match("pretrained/SmolLM2/config.json") for pattern in out)


def test_the_page_names_every_extra_with_its_packages():
    rows = {row[0].strip("` "): row for line in PAGE.partition("## Extras")[2].splitlines() if (row := line.strip("| ").split(" | ")) and line.startswith("| `")}
    assert set(rows) == set(EXTRAS)
    for name, packages in EXTRAS.items():
        assert re.findall(r"`([^`]+)`", rows[name][1]) == packages and all(cell.strip() for cell in rows[name]) and len(rows[name]) == 5
