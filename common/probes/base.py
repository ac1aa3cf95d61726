"""Probe of the training of base models: demonstrations, and a model of toy size trained on them."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from common import base
from common.base import demonstrations, later_requests, train_base
from common.lm.bases import SMOKE, BaseSettings, has_base, settings_for
from common.lm.models import load_model
from common.probes.game import SUMS, Sums
from common.probes.tiny import one_thread, tensor

SETTINGS = BaseSettings(width=16, layers=1, heads=2, context=256, vocab=290, split_digits=True, repeats=2, updates=3, batch=8, lr=2e-3)


def probe() -> dict[str, float | str]:
    """See :mod:`common.probes`. Sizes and tasks are those of the probes, whatever bases.yaml says and whatever an environment does."""
    with one_thread(), tempfile.TemporaryDirectory() as folder, _small():
        data, out = Path(folder), Path(folder) / "out"
        _panels(data)
        examples = demonstrations(Sums(), SUMS, seed=7, repeats=2)
        logged: list[dict[str, float]] = []
        report = train_base("sums", "smoke", data, out, seed=1, log=lambda _, metrics: logged.append(metrics))
        lm, tokens = load_model(out)
    smoke = asdict(settings_for("countdown-v1", "smoke"))
    values: dict[str, float | str] = {
        "examples": repr(examples), "later": repr([later_requests(one) for one in examples]),
        "tokens": repr(tokens(["3 again yes"])["input_ids"]), "smoke": repr([smoke[name] for name in SMOKE]),
        "has": int(has_base("sums")),
    }  # fmt: skip
    values |= {f"report.{name}": float(value) for name, value in report.items()}
    values |= {f"log.{i}.{name}": float(value) for i, metrics in enumerate(logged) for name, value in metrics.items()
               if name != "tokens_per_second"}  # fmt: skip
    for i, weight in enumerate(lm.parameters()):
        values |= tensor(f"weights.{i:02d}", weight)
    return values


@contextmanager
def _small() -> Iterator[None]:
    """Inside, base models are of this size and trained on sums."""
    before = base.settings_for, base.make
    base.settings_for, base.make = (lambda *_: SETTINGS), (lambda *_: Sums())
    try:
        yield
    finally:
        base.settings_for, base.make = before


def _panels(data: Path) -> None:
    """Panels of a few tasks, as frozen ones are read."""
    folder, files = data / "sums", {}
    folder.mkdir()
    for split in ("demos", "validation"):
        text = "".join(json.dumps(asdict(task)) + "\n" for task in SUMS)
        (folder / f"{split}.jsonl").write_text(text)
        files[f"{split}.jsonl"] = {"rows": len(SUMS), "sha256": hashlib.sha256(text.encode()).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps({"env": "sums", "files": files}))
