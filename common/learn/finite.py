"""Stops training at the first loss or gradient norm that is NaN or infinite."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from common import ranks


def require_finite(
    stage: str, step: int, numbers: Mapping[str, float], *, lr: float, batch: Callable[[], Mapping[str, Any]], out_dir: Path
) -> None:
    """Check that all ``numbers`` of update ``step`` are finite; else write them and ``batch()`` into
    ``out_dir``/failed_batch.json (failed_batch.1.json, … of other ranks), numbers as text since JSON has no NaN.

    Call it before the optimiser step that would write them into the weights.

    Raises:
        FloatingPointError: naming the first that is not finite, the file and what to try.
    """
    broken = next((name for name, value in numbers.items() if not math.isfinite(value)), None)
    if broken is None:
        return
    rank = ranks.rank()
    path = out_dir / (f"failed_batch.{rank}.json" if rank else "failed_batch.json")
    out_dir.mkdir(parents=True, exist_ok=True)
    record = {"stage": stage, "step": step, "lr": lr, **{name: str(value) for name, value in numbers.items()}, **batch()}
    path.write_text(json.dumps(record, default=str), encoding="utf-8")
    raise FloatingPointError(
        f"{stage}: {broken} is {numbers[broken]} at update {step} with lr {lr}, and training stops at the first value that is "
        f"not finite; lower lr or look at the batch saved in '{path}'"
    )
