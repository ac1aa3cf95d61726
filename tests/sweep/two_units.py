"""What tests/sweep/test_together.py runs in two processes: ``python -m tests.sweep.two_units WORLD LAB``, SCoRe's stages."""

from __future__ import annotations

import sys
from pathlib import Path

from common import ranks
from common.sweep.cluster import compute_stages
from common.track.store import Run, unit_path
from tests.papers.sums import ENV
from tests.papers.units import open_unit

if __name__ == "__main__":
    ranks.join()
    world, lab = map(Path, sys.argv[1:])
    if ranks.rank() == 0:
        unit = open_unit(world, "score", ENV, lab)
    ranks.barrier()
    if ranks.rank() != 0:  # the folder's lock is rank 0's
        Run.open = lambda root, spec: Run(unit_path(root, spec), spec)
        unit = open_unit(world, "score", ENV, lab)
    compute_stages(unit)
