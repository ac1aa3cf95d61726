"""A paper's numbers on an older processor: not the same ones, but what one more seed would give."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from common.lm.native import ARCHITECTURE, library
from common.rows import read_metrics
from common.sweep.verify import another_processor, compare
from common.track.processor import LIMITS, read

ROOT = Path(__file__).resolve().parents[2]
PAPER, ENV = "confidence_critique", "arithmetic-v1"
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", ARCHITECTURE: "x86-64-v3"}
BASELINE = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
            ARCHITECTURE: "x86-64-v2"}  # fmt: skip
COMPUTE = """
import sys
from pathlib import Path
from common.sweep.plan import plan
from common.sweep.verify import _recompute

root, paper, env, store, seeds = Path(sys.argv[1]), *sys.argv[2:4], Path(sys.argv[4]), sys.argv[5]
for one in plan(root, paper, seeds=[*map(int, seeds)], profile="smoke", envs=[env]):
    _recompute(root, one, store)
"""

pytestmark = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="other processors have no such older ones"),
    pytest.mark.skipif(isinstance(library(), str), reason=str(library())),
    pytest.mark.skipif(not (ROOT / "models" / ENV).is_dir(), reason="the base model is not here: dvc pull"),
]


def computed(store: Path, seeds: str, older: dict[str, str]) -> list[Path]:
    """Run folders of smoke units from the shipped base model, computed in a process of their own."""
    kept = {name: value for name, value in os.environ.items() if name not in {*AVX2, *LIMITS}}
    subprocess.run([sys.executable, "-c", COMPUTE, ROOT, PAPER, ENV, store, seeds], check=True, cwd=ROOT,
                   env={**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "LAB_BACKEND": "native", **older})  # fmt: skip
    return [path.parent for path in (store / "runs" / PAPER).glob("*/DONE")]


def test_a_unit_under_older_instructions_gives_what_one_more_seed_would(tmp_path):
    folders = computed(tmp_path / "here", "012", {})
    [here] = {tuple(tuple(one.items()) for one in read(folder)) for folder in folders}
    newest = {dict(one)["PyTorch"] for one in here} == {"AVX512"}
    [folder] = computed(tmp_path / "older", "0", AVX2 if newest else BASELINE)
    [older] = read(folder)
    assert (older["PyTorch"], older["native.c"]) == (("AVX2", "AVX2") if newest else ("DEFAULT", "baseline"))
    assert another_processor([dict(one) for one in here], [older])
    found = compare(folder.name, read_metrics(folder / "rows.jsonl"), [row for one in folders for row in read_metrics(one / "rows.jsonl")])
    assert not found.outside, found
    assert found.identical and found.inside  # counts of tasks come out the same, probabilities do not: the older code did run
