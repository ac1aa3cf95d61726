"""Probe of the harness: the rows of a small paper that learns in each of its ways, shares a stage and compares its variants."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch

from common.config import Evaluation, ModelParams, to_json
from common.envs.answers import AnswerEnv
from common.lab import BASE, Collected, Lab, Measured, Result, Trained, Variant, rows_of, spent
from common.learn.batches import SFTExample
from common.learn.policy_gradient import CreditedTurn, leave_one_out
from common.lm.engine import Engine
from common.lm.models import save_model
from common.probes.tiny import model, one_thread, tensor, tokenizer
from common.track.store import Run, UnitSpec
from common.types import PreferencePair, Task

TASKS = [Task(f"places/{split}/{i}", "places", split, {"numbers": [number], "target": i % 2})
         for split in ("train", "test") for i, number in enumerate((3, 14, 27, 158))]  # fmt: skip


class Places(AnswerEnv):
    """Two attempts to say where a box is: right is what has an even, or an odd, number of letters."""

    id = "places"

    def start(self, task: Task) -> tuple[tuple[int, ...], int]:
        self._number = task.data["numbers"][0]
        return (self._number,), task.data["target"]

    def question(self) -> str:
        return f"the red box {self._number}"

    def score(self, action: str) -> float:
        return float(len(action) % 2 == self.snapshot().target)


@dataclass(frozen=True, kw_only=True)
class Params(ModelParams):
    test: Evaluation


class Small(Lab):
    """The harness with the tasks of this probe."""

    def make_env(self) -> Places:
        return Places()

    def panel(self, name: str) -> list[Task]:
        return [task for task in TASKS if task.split == name]


def variants(p: Params) -> list[Variant]:
    return [Variant(name) for name in ("base", "sft", "dpo", "gradient")]


def train(lab: Lab, variant: Variant) -> Trained:
    if variant.name == "base":
        return BASE
    first = lab.fit("sft", lambda engine: lab.once("examples", lambda: sampled(lab, engine)), order=("sft", 1), lr=1e-3, max_steps=2, batch_size=4)
    if variant.name == "sft":
        return first
    if variant.name == "dpo":
        pair = PreferencePair(({"role": "user", "content": "good?"},), "yes", "no", -2.0, -3.0, 1.0, 0.0, "places/train/0")
        return lab.fit("dpo", lambda engine: Collected([pair] * 4, found={"pairs": 4.0}), order=("dpo", 1), start=first, lr=1e-3, epochs=1,
                       batch_size=2, beta=0.1)  # fmt: skip
    return lab.reinforce("gradient", lambda engine, update: credited(lab, engine, update), lr=1e-3, updates=2, warmup=1, start=first)


def sampled(lab: Lab, engine: Engine) -> Collected:
    _, episodes = lab.sample(lab.policy(engine), lab.batch(0, 3), "collect", 0, group=2)
    rows = [SFTExample(step.prompt, step.turn.text or "yes", 0.5) for episode in episodes for step in episode.steps]
    return Collected(rows, spent(engine, len(rows)), {"rows": len(rows)})


def credited(lab: Lab, engine: Engine, update: int) -> Collected:
    episodes, attempts = lab.attempts(lab.policy(engine), lab.batch(update, 2), "rl", update, group=2, turns=1)
    advantages = leave_one_out(torch.from_numpy(attempts.correct[:, 0]).double().view(-1, 2)).reshape(-1).tolist()
    rows = [(CreditedTurn(one.steps[0].prompt, one.steps[0].turn.text or "yes", advantage + 0.1, 0.1),)
            for one, advantage in zip(episodes, advantages, strict=True)]  # fmt: skip
    return Collected(rows, spent(engine, len(rows)))


def compare(lab: Lab, results: list[Result]) -> list[Result]:
    return [Result("best", results[0].cost, [Measured("test", {"of": len(results)}, 1, acting="choice", cost=results[1].cost)])]


def probe() -> dict[str, float | str]:
    """See :mod:`common.probes`."""
    params = Params(panels=("test",), model="nano", lora_rank=0, four_bit=False, answer_tokens=8, test=Evaluation(4, 2))
    method = ModuleType("method")
    method.variants, method.train, method.compare = variants, train, compare
    with one_thread(), tempfile.TemporaryDirectory() as name:
        root, tokens = Path(name), tokenizer()
        save_model(model(tokens, width=16, layers=1, steps=60), tokens, root / "base")
        spec = UnitSpec(paper="small", env="places", seed=5, profile="cpu", params=to_json(params), room="", layers={}, data={}, base="",
                        pins="")  # fmt: skip
        unit = SimpleNamespace(root=root, paper="small", env="places", seed=5, profile="cpu", params=params, run=Run.open(root, spec),
                               base=root / "base", data=root)  # fmt: skip
        lab = Small(unit, method)
        rows = sorted(rows_of(lab), key=lambda row: row.identity)
        order = [task.id for task in lab.tasks]
        engine = lab.engine(lab.method.train(lab, Variant("sft")))
        acted = lab.episodes("again", lambda: lab.policy(engine, 0.0))
        actions = [(one.task_id, [step.turn.text for step in one.steps]) for one in acted["test"]]
        weights = {name: value for one in ("sft", "dpo", "gradient") for name, value in tensor(
            f"weights.{one}", next(lab.engine(lab.method.train(lab, Variant(one))).model.parameters())).items()}
        unit.run.close()
    values: dict[str, float | str] = {"order": repr(order), "acted": repr(actions),
                                      "rows": repr([(row.variant, row.panel, row.metric, row.n, row.scale) for row in rows]),
                                      "costs": repr([sorted(row.cost.items()) for row in rows if row.metric == "success"])}  # fmt: skip
    return values | weights | {f"{row.variant}.{row.metric}": row.value for row in rows}
