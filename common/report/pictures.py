"""Figures that stand for a paper: the README's ``docs/images/*.png``, and those of the paper's page on the site.

    python -m common.report.pictures            # writes them; the same tables give the same pictures

Each file carries the hash of the rows behind it (PNG text ``Source``), so that a test can tell when a picture
no longer follows from the results.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from common.evaluate.claims import headline_metric
from common.evaluate.publish import load_rows, read_claims
from common.evaluate.tables import NANO
from common.files import storage
from common.report import figures, overview, published
from common.report.story import notebook_content
from common.rows import MetricRow
from common.sweep.plan import USER_ENVS
from common.sweep.unit import project_root

FOLDER = "docs/images"
CLAIMS = "results/claims"
SHOWS = {"ladder": "its variants from the bottom to the top, as the paper orders them",
         "acting": "the same policies alone, as the best of n episodes, and searching, on the same tasks",
         "audit": "preference pairs that exact values confirm, and their number, against the threshold",
         "forest": "effect and interval of every claim on the metric of most of them"}
"""What a kind of picture shows, in words."""


def draw(root: Path) -> dict[str, tuple[Figure, str]]:
    """File name → (figure, hash of its rows): the verdicts of all papers; for each paper with results its ladder, what search adds when
    acting, and its pair audit, of models trained here. Environments that need a user's files are left to the report."""
    made = {}
    if list((root / CLAIMS).glob("*.json")):
        records = read_claims(root / CLAIMS).claims
        made["verdicts.png"] = (overview.draw(records), overview.source(records))
    rows = [row for row in load_rows(root / "results") if row.env not in USER_ENVS and row.scale == NANO]
    for paper in sorted({row.paper for row in rows}):
        mine = [row for row in rows if row.paper == paper]
        for kind, figure in of_paper(root, mine, ()).items():
            made[f"{paper}_{kind}.png"] = (figure, _hash(mine))
    return made


def of_paper(root: Path, rows: Sequence[MetricRow], records: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
    """Kind → figure of one paper's ``rows`` (some kinds need what the paper may not have), and the forest of its
    ``records`` if there are any. The ladder is the one of the paper's notebook."""
    paper = rows[0].paper
    metric = headline_metric(root / "papers" / paper / "claims.yaml")
    rungs = published.present(rows, notebook_content(root, paper).ladder, metric)
    made = {"ladder": figures.ladder(rows, rungs, metric=metric)}
    planned = [row for row in rows if row.metric == "planned_success"]  # other papers' searches are on their ladder
    if searched := published.acting(planned, rungs):
        made["acting"] = figures.ladder(rows, searched, metric="planned_success")
    if any(row.variant.startswith(f"{paper}@theta=") for row in rows):
        made["audit"] = figures.audit(rows, f"{paper}@theta=")
    if any(record["metric"] == metric and record["effect"] is not None for record in records):
        made["forest"] = figures.forest(records, metric=metric)
    return made


def write_pictures(root: Path) -> list[Path]:
    """Draw all pictures anew; returns their paths."""
    folder, paths = root / FOLDER, []
    with storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, (figure, source) in draw(root).items():
            figure.savefig(folder / name, dpi=110, metadata={"Source": source, "Software": None})
            paths.append(folder / name)
    return paths


def _hash(rows: Sequence[MetricRow]) -> str:
    lines = sorted(repr((row.identity, row.value, row.n)) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


if __name__ == "__main__":
    written = write_pictures(project_root())
    print("\n".join(path.relative_to(project_root()).as_posix() for path in written) or "no results to draw yet")
