"""The page of licences is what the command writes, and the licence is read where a package declares it."""

from __future__ import annotations

from email.message import Message
from importlib import metadata
from pathlib import Path

import pytest

from common.cli import licences
from common.cli.doctor import LOCKS
from common.config import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def about(**fields: str) -> Message:
    message = Message()
    for name, value in fields.items():
        for one in value.split("\t"):
            message[name.replace("_", "-")] = one
    return message


@pytest.mark.parametrize(("fields", "licence"), [
    ({"License_Expression": "MIT", "License": "BSD"}, "MIT"),
    ({"License": "MPL-2.0 AND MIT", "Classifier": "License :: OSI Approved"}, "MPL-2.0 AND MIT"),
    ({"License": "Copyright 2020 A\nPermission is", "Classifier": "Typing :: Typed\tLicense :: OSI Approved :: BSD License"}, "BSD License"),
    ({"License": "UNKNOWN", "Classifier": "License :: OSI Approved :: MIT License"}, "MIT License"),
    ({"License": "Copyright 2020 A\nPermission is"}, licences.UNNAMED),
    ({}, licences.UNNAMED),
])
def test_where_a_licence_is_read(fields, licence):
    assert licences.declared(about(**fields)) == licence


def test_the_committed_page_is_what_the_installed_packages_declare():
    text = licences.page(ROOT)
    assert text == (ROOT / licences.PAGE).read_text(encoding="utf-8"), "run: python -m common licences"
    assert "| minatar | 1.0.15 | GPL | directly |" in text and "| pygit2 |" in text and "| MinAtar | 1.0.15 | GPL |" in text


def test_another_version_than_the_locks_is_refused(tmp_path):
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    (tmp_path / LOCKS[1]).write_text((ROOT / LOCKS[1]).read_text())
    text, installed = (ROOT / LOCKS[0]).read_text(), metadata.version("numpy")
    (tmp_path / LOCKS[0]).write_text(text.replace(f"numpy=={installed}", "numpy==0.1"))
    with pytest.raises(ConfigError, match=f"numpy is installed as {installed} but the lock says 0.1; run: make setup"):
        licences.page(tmp_path)
    (tmp_path / LOCKS[0]).write_text(f"{text}no-such-package-here==1.0\n")
    with pytest.raises(ConfigError, match="no-such-package-here is not installed .*run: make setup"):
        licences.page(tmp_path)
