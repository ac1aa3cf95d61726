"""``papers/index.csv``: every paper of the four families. What has a room is implemented; the rest has a status there."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from common.config.lab import known_papers
from common.config.strict import ConfigError, hint

INDEX = "papers/index.csv"
IMPLEMENTED = "implemented"


@dataclass(frozen=True)
class Entry:
    """One paper of the reading list. ``arxiv`` is "" where no number is known; ``status`` is "implemented" where there is a room,
    else as in the file."""

    id: str
    title: str
    arxiv: str
    url: str
    year: str
    family: str
    status: str
    note: str

    @property
    def cite(self) -> str:
        """How files name the paper: ``arXiv:2401.01335``, or its title where it has no number."""
        return f"arXiv:{self.arxiv}" if self.arxiv else f'"{self.title}"'


def entries(root: Path) -> dict[str, Entry]:
    """Id → entry, in the order of the file."""
    with open(root / INDEX, encoding="utf-8", newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    rooms = set(known_papers(root))
    return {key: Entry(**{**row, "status": IMPLEMENTED if key in rooms else row["status"]}) for key, row in rows.items()}


def entry_of(root: Path, paper: str) -> Entry:
    """The entry of ``paper``. ConfigError where the index has none."""
    index = entries(root)
    if paper not in index:
        raise ConfigError(f'paper: "{paper}" is not in {INDEX}, which lists every paper that may be added; {hint(paper, index)}')
    return index[paper]
