"""``native.c`` under AddressSanitizer and UndefinedBehaviorSanitizer: thousands of random calls, most at or beyond a boundary."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from common.lm import native

ROOT = Path(__file__).resolve().parents[2]
CALLS = 2000


def runtime(name: str) -> str:
    """The compiler's own library of that name, "" where it has none."""
    cc = native.compiler()
    found = subprocess.run([cc, f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip() if cc else ""
    return found if os.path.isabs(found) else ""


def fuzz(folder: Path, calls: int, seed: int = 0) -> subprocess.CompletedProcess[str]:
    # A Python process needs the sanitizer's library before all others, and that of C++ exceptions, which torch throws, beside it.
    preload = " ".join(filter(None, (runtime("libasan.so"), runtime("libstdc++.so"))))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LD_PRELOAD": preload, "OMP_NUM_THREADS": "1",
                   "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0", "UBSAN_OPTIONS": "print_stacktrace=1"}  # fmt: skip
    return subprocess.run([sys.executable, str(Path(__file__).with_name("fuzz_native.py")), str(folder), str(seed), str(calls)],
                          cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.skipif(not runtime("libasan.so"), reason="the C compiler has no AddressSanitizer (libasan)")
def test_no_call_reads_or_writes_outside_its_arrays(tmp_path):
    done = fuzz(tmp_path, CALLS)
    if done.stderr.startswith("SKIP"):
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr[-4000:]
    counts = {name: int(n) for name, n in re.findall(r"'([\w ]+)': (\d+)", done.stdout)}
    # Calls of all kinds were made: as many that are done as to be worth it, and refused ones too.
    assert sum(counts.values()) == CALLS and min(counts["done"], counts["refused"]) > CALLS // 10 and counts["not finite"] > 0
    assert "no memory" not in counts  # nothing that is refused is asked for first
