"""``docs/images/*.png``: the pictures of the README, drawn from the tables in ``results/``.

    python -m common.report.pictures            # writes them; the same tables give the same pictures

Each file carries the hash of the rows behind it (PNG text ``Source``), so that a test can tell when a picture
no longer follows from the results.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from common.evaluate.publish import load_rows
from common.report import figures, stories
from common.sweep.plan import USER_ENVS
from common.sweep.unit import project_root
from common.track.files import storage
from common.track.rows import MetricRow

FOLDER = "docs/images"


def drawn(root: Path) -> dict[str, tuple[Figure, str]]:
    """File name → (figure, hash of its rows): for each paper with results its ladder, what search adds when
    acting, and its pair audit. Environments that need a user's files are left to the report."""
    made = {}
    rows = [row for row in load_rows(root / "results") if row.env not in USER_ENVS]
    for paper in sorted({row.paper for row in rows}):
        mine = [row for row in rows if row.paper == paper]
        claims = root / "papers" / paper / "claims.yaml"
        metric = stories.headline(claims)
        rungs = max((stories.present(mine, group, metric) for group in stories.claim_groups(claims).values()), key=_some)
        made[f"{paper}_ladder.png"] = (figures.ladder(mine, rungs, metric=metric), _hash(mine))
        searched = stories.acting(mine, rungs)
        if searched:
            made[f"{paper}_acting.png"] = (figures.ladder(mine, searched, metric="planned_success"), _hash(mine))
        prefix = f"{paper}@theta="
        if any(row.variant.startswith(prefix) for row in mine):
            made[f"{paper}_audit.png"] = (figures.audit(mine, prefix), _hash(mine))
    return made


def write(root: Path) -> list[Path]:
    """Draw all pictures anew; returns their paths."""
    folder, paths = root / FOLDER, []
    with storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, (figure, source) in drawn(root).items():
            figure.savefig(folder / name, dpi=110, metadata={"Source": source, "Software": None})
            paths.append(folder / name)
    return paths


def stale(root: Path) -> list[str]:
    """Names of pictures that are missing or were drawn from other rows than those in ``results/``."""
    found = []
    for name, (_, source) in drawn(root).items():
        path = root / FOLDER / name
        if not path.exists() or Image.open(path).info.get("Source") != source:
            found.append(name)
    return found


def _some(rungs: Sequence[str]) -> bool:
    """Whether there is something to compare: of several groups of claims, the first of which this is true is drawn."""
    return len(rungs) > 1


def _hash(rows: Sequence[MetricRow]) -> str:
    lines = sorted(repr((row.identity, row.value, row.n)) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


if __name__ == "__main__":
    written = write(project_root())
    print("\n".join(path.relative_to(project_root()).as_posix() for path in written) or "no results to draw yet")
