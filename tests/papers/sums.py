"""A small world for self-correction: two-number Countdown whose target is always the sum, and a half-taught policy.

The policy was shown targets of all operators: the rule "write a plus" carries over to numbers never seen, and the
base follows it now and then.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

from common.config import load_spec, params_class, resolve, to_json
from common.envs.countdown import expressions
from common.envs.versions.countdown_answer_v1 import CountdownAnswerEnv
from common.learn.policy import sft
from common.learn.settings import TrainSettings
from common.lm.base import demonstrations, later_requests
from common.lm.models import new_nano, save_model
from common.lm.tokenizer import train_tokenizer
from common.rng import generator
from common.sweep.unit import Unit
from common.track.store import Run, UnitSpec
from common.types import Task

REPOSITORY = Path(__file__).resolve().parents[2]
ENV = "countdown-answer-v1"


def build(root: Path) -> Path:
    """``data/`` in the format of the real panels, and ``base/``, the half-taught policy."""
    pairs = [(a, b) for a in range(2, 14) for b in range(1, a)]
    order = generator("tiny sums").permutation(len(pairs)).tolist()
    folder, files = root / "data" / ENV, {}
    folder.mkdir(parents=True)
    for split, chosen in {"train": order[:50], "test": order[50:]}.items():
        tasks = [Task(f"{ENV}/{split}/{k}", ENV, split, {"numbers": list(pairs[k]), "target": sum(pairs[k])})
                 for k in chosen]  # fmt: skip
        blob = "".join(json.dumps(dataclasses.asdict(task)) + "\n" for task in tasks).encode()
        (folder / f"{split}.jsonl").write_bytes(blob)
        files[f"{split}.jsonl"] = {"rows": len(tasks), "sha256": hashlib.sha256(blob).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps({"env": ENV, "files": files}))
    shown = [Task(f"{ENV}/demos/{a}-{b}-{value}", ENV, "demos", {"numbers": [a, b], "target": value})
             for a, b in pairs for _, value in expressions((a, b))]  # fmt: skip
    examples = demonstrations(CountdownAnswerEnv(), shown, seed=0, repeats=2)
    texts = [f"{e.prompt[0]['content']} {e.completion}" for e in examples]
    texts += [text for e in examples for text in later_requests(e)]
    tokenizer = train_tokenizer(texts, 340, split_digits=False)
    model = new_nano(tokenizer, width=32, layers=2, heads=2, context=96, seed=0)
    settings = TrainSettings(lr=8e-3, max_steps=150, batch_size=64, max_length=96, warmup=0.1)
    sft(model, tokenizer, examples, settings, seed=0, out_dir=root / "sft")
    save_model(model, tokenizer, root / "base")
    return root


def open_unit(world: Path, paper: str, root: Path, *, seed: int = 0, **overrides) -> Unit:
    """A unit of ``paper`` in the world that :func:`build` made, at the smoke profile; ``sft__lr`` is ``sft.lr``."""
    root.mkdir(exist_ok=True)
    if not (root / "data").exists():
        (root / "data").symlink_to(world / "data")
    spec = load_spec(REPOSITORY, paper)
    given = {name.replace("__", "."): value for name, value in overrides.items()}
    params = resolve(params_class(REPOSITORY, spec), spec, "smoke", ENV, given)
    unit = UnitSpec(paper=paper, env=ENV, seed=seed, profile="smoke", params=to_json(params), code="c" * 64,
                    data={}, base="b" * 64, lock="d" * 64)  # fmt: skip
    return Unit(root=root, paper=paper, env=ENV, seed=seed, profile="smoke", params=params,
                run=Run.open(root, unit), base=world / "base")  # fmt: skip
