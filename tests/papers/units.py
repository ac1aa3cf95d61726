"""What tests of papers are made of, in temporary folders: panels, half-taught policies, open units.

A *world* is a folder with ``data/`` in the format of the real panels and, where policies start from one, ``base/``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file

from common.config import PaperSpec, load_spec, resolve, to_json
from common.envs.countdown import expressions
from common.learn.batches import SFTExample
from common.learn.policy import sft
from common.learn.settings import TrainSettings
from common.base import later_requests
from common.lm.models import new_nano, save_model
from common.lm.tokenizer import train_tokenizer
from common.rng import generator
from common.sweep.unit import Unit, params_class
from common.track.store import Run, UnitSpec
from common.types import Task

REPOSITORY = Path(__file__).resolve().parents[2]
PAIRS = [(a, b) for a in range(2, 14) for b in range(1, a)]


def write_panels(world: Path, env: str, panels: dict[str, Iterable[Task | dict]]) -> None:
    """``world/data/<env>``: a file for each panel, and their manifest."""
    folder, files = world / "data" / env, {}
    folder.mkdir(parents=True)
    for name, rows in panels.items():
        records = [dataclasses.asdict(row) if isinstance(row, Task) else row for row in rows]
        blob = "".join(json.dumps(row) + "\n" for row in records).encode()
        (folder / f"{name}.jsonl").write_bytes(blob)
        files[f"{name}.jsonl"] = {"rows": len(records), "sha256": hashlib.sha256(blob).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps({"env": env, "files": files}))


def sums(env: str, name: str, *, train: int = 50) -> dict[str, list[Task]]:
    """Two-number Countdown whose target is always the sum; ``train`` and ``test`` share no pair of numbers.

    For a policy that was shown targets of all operators (:func:`operators`) the rule "write a plus" carries over to
    numbers never seen, and it follows it now and then: whatever finds out which answers are right can raise that.
    """
    order = generator(name).permutation(len(PAIRS)).tolist()
    return {
        split: [Task(f"{env}/{split}/{k}", env, split, {"numbers": list(PAIRS[k]), "target": sum(PAIRS[k])})
                for k in chosen]
        for split, chosen in {"train": order[:train], "test": order[train:]}.items()
    } | {"demos": operators(env)}  # fmt: skip


def operators(env: str) -> list[Task]:
    """The same numbers with the targets of all four operators, to be demonstrated."""
    return [Task(f"{env}/demos/{a}-{b}-{value}", env, "demos", {"numbers": [a, b], "target": value})
            for a, b in PAIRS for _, value in expressions((a, b))]  # fmt: skip


def teach(
    world: Path, examples: list[SFTExample], *, vocab: int, context: int, updates: int, width: int = 32, heads: int = 2,
    batch: int = 64, words: Sequence[str] = (),
) -> None:
    """``world/base``: a nano policy that was shown ``examples`` for a while. ``words`` are further texts for its tokenizer."""
    texts = [f"{e.prompt[0]['content']} {e.completion}" for e in examples] + list(words)
    texts += [text for e in examples for text in later_requests(e)]
    tokenizer = train_tokenizer(texts, vocab, split_digits=False)
    model = new_nano(tokenizer, width=width, layers=2, heads=heads, context=context, seed=0)
    settings = TrainSettings(lr=8e-3, max_steps=updates, batch_size=batch, max_length=context, warmup=0.1)
    sft(model, tokenizer, examples, settings, seed=0, out_dir=world / "sft")
    save_model(model, tokenizer, world / "base")


@cache
def spec_of(paper: str) -> PaperSpec:
    """What ``papers/<paper>/params.yaml`` declares, read once: a test of resumption opens a unit a hundred times."""
    return load_spec(REPOSITORY, paper)


def open_unit(world: Path, paper: str, env: str, root: Path, *, seed: int = 0, **overrides) -> Unit:
    """A unit of ``paper`` in ``world`` at the smoke profile, with ``root`` as project; ``sft__lr`` is ``sft.lr``."""
    root.mkdir(exist_ok=True)
    if not (root / "data").exists():
        (root / "data").symlink_to(world / "data")
    spec = spec_of(paper)
    given = {name.replace("__", "."): value for name, value in overrides.items()}
    params = resolve(params_class(REPOSITORY, spec), spec, "smoke", env, given)
    base = world / "base"
    unit = UnitSpec(paper=paper, env=env, seed=seed, profile="smoke", params=to_json(params), room="c" * 16, layers={},
                    data={}, base="b" * 64, pins="d" * 64)  # fmt: skip
    return Unit(root=root, paper=paper, env=env, seed=seed, profile="smoke", params=params, run=Run.open(root, unit),
                base=base if base.is_dir() else None)  # fmt: skip


def content(unit: Unit) -> bytes:
    """The unit's metric rows as they are on the disk."""
    return (unit.run.path / "rows.jsonl").read_bytes()


def adapters_alone_moved(unit: Unit, stages: int) -> None:
    """Each of the ``stages`` trained models is a plain one that differs from the base in the matrices that have adapters."""
    base = load_file(unit.base / "model.safetensors")
    folders = sorted((unit.run.path / "stages").glob("train.*/"))
    assert len(folders) == stages
    for folder in folders:
        trained = load_file(folder / "model.safetensors")
        moved = {name for name in base if not torch.equal(trained[name], base[name])}
        assert trained.keys() == base.keys() and moved == {n for n in base if n.endswith("proj.weight")}, folder.name


def interrupt(method: ModuleType, unit: Unit, name: str, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run ``unit`` until ``method.<name>`` was called ``after`` times and is called again; it must not end well."""
    plain, left = getattr(method, name), [after]

    def failing(*args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt(name)
        return plain(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(method, name, failing)
        with pytest.raises(KeyboardInterrupt, match=name):
            method.run(unit)
    assert not unit.run.finished
    unit.run.close()
