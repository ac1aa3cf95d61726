"""Provenance inside and outside git, and with no tool at all."""

import hashlib
import subprocess

import pytest

from common.config import ConfigError
from common.track.provenance import lock_hash, provenance


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


def test_a_missing_lock_is_told(root):
    (root / "requirements.lock").unlink()
    with pytest.raises(ConfigError, match="requirements.lock cannot be read"):
        lock_hash(root)
