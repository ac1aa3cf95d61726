"""Rows as lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """One row a line, written anew."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
