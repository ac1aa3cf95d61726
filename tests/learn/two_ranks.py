"""What tests/learn/test_ranks.py runs in one process and in two: ``python -m tests.learn.two_ranks WORLD OUT``.

``WORLD`` holds a model with its tokenizer, and ``one/``, checkpoints of one process to go on from. Results go to ``OUT``.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from common import ranks
from common.learn.batches import SFTExample
from common.learn.policy import dpo, sft
from common.learn.policy_gradient import CreditedTurn, PolicyGradientSettings, policy_gradient
from common.learn.settings import DPOSettings, TrainSettings
from common.learn.value import ValueExample, ValueHead, train_value
from common.lm.engine import Engine
from common.lm.models import load_model
from common.lm.policy import LMPolicy
from tests.learn.test_policy import ask, episode_pairs, examples, step_pairs

BASIC = {"lr": 1e-3, "max_length": 40}
CASES = {
    # 19 examples leave a last update of 6, in unequal passes; 9 leave one of a single row, so that a rank has none.
    "sft": (examples(19), TrainSettings(**BASIC, batch_size=8, epochs=2)),
    "sft, accumulated": (examples(19), TrainSettings(**BASIC, batch_size=3, grad_accum=2, epochs=2)),
    "sft, one row left": (examples(9), TrainSettings(**BASIC, batch_size=4, epochs=1)),
    "dpo": (step_pairs(19), DPOSettings(**BASIC, batch_size=8, epochs=2, beta=0.3)),
    "dpo, one pair left": (step_pairs(9), DPOSettings(**BASIC, batch_size=4, epochs=1, beta=0.3, nll=0.5)),
    "dpo, episodes": (episode_pairs(10), DPOSettings(**BASIC, batch_size=3, epochs=2, beta=0.3)),
}
SAVED = TrainSettings(**BASIC, batch_size=4, epochs=None, max_steps=8, save_every=3)
"""Checkpoints after updates 3, 6 and 8; the last two are kept."""


def train(world: Path, out: Path, items: list, settings: TrainSettings, *, spoil: bool = False) -> dict:
    """One training from the model in ``world``: its log, TrainStats, and weights in ``out``."""
    model, tokenizer = load_model(world)
    if spoil and ranks.rank():  # rank 0's weights are to be everybody's
        torch.nn.init.zeros_(model.model.embed_tokens.weight)
    log: list[dict[str, float]] = []
    teach = dpo if isinstance(settings, DPOSettings) else sft
    stats = teach(model, tokenizer, items, settings, seed=5, out_dir=out, log=lambda _, m: log.append(m))
    return finished(model, out, log) | {"stats": {k: v for k, v in asdict(stats).items() if k != "seconds"}}


def finished(model: torch.nn.Module, out: Path, log: list[dict[str, float]]) -> dict:
    """Weights to ``out``; what rank 0 logged, how often the others did, and whether all have the same bits."""
    weights = {name: p.detach().contiguous().clone() for name, p in model.named_parameters()}
    bits = hashlib.sha256(b"".join(p.numpy().tobytes() for p in weights.values())).hexdigest()
    gathered = ranks.all_gather((bits, len(log)))
    if ranks.rank() == 0:
        out.mkdir(parents=True, exist_ok=True)
        save_file(weights, out / "weights.safetensors")
    for metrics in log:
        metrics.pop("tokens_per_second", None)
    return {"log": log, "same bits": len({bits for bits, _ in gathered}) == 1, "logged": [n for _, n in gathered]}


def dialogues(update: int) -> list[tuple[CreditedTurn, ...]]:
    """Five dialogues, each of its own credit; samples of one task side by side, one dialogue without any turn."""
    found = []
    for i in range(4):
        task = ask(update + i // 2)
        again = (*task, {"role": "assistant", "content": str(i)}, {"role": "user", "content": "c d"})
        found.append((CreditedTurn(task, str(i), 0.5 - i / 3, 0.1), CreditedTurn(again, f"{i} {update}", 1.0 - i, 0.05)))
    return [*found, ()]


def reinforce(world: Path, out: Path, updates: int, collect) -> dict:  # noqa: ANN001
    (model, tokenizer), (reference, _) = load_model(world), load_model(world)
    log: list[dict[str, float]] = []
    settings = PolicyGradientSettings(lr=1e-3, updates=updates, max_length=40)
    policy_gradient(model, reference, tokenizer, collect, settings, out_dir=out, log=lambda _, m: log.append(m))
    return finished(model, out, log)


def value(world: Path, out: Path) -> dict:
    """The fine-tuned value head's training; its loss has no weights, and its last update has a single row."""
    model, tokenizer = load_model(world)
    head, log = ValueHead(model.config.hidden_size), []
    value_examples = [ValueExample(ask(i), str(i), i / 9) for i in range(9)]
    settings = TrainSettings(**BASIC, batch_size=4, epochs=1)
    train_value(model, head, tokenizer, value_examples, settings, seed=5, out_dir=out, log=lambda _, m: log.append(m))
    return finished(torch.nn.ModuleList([model, head]), out, log)


def broken(world: Path, out: Path) -> list[str]:
    """What each rank says where one row's loss is no number: a word of that row has a broken embedding."""
    model, tokenizer = load_model(world)
    with torch.no_grad():
        model.model.embed_tokens.weight[tokenizer.convert_tokens_to_ids("j")] = float("nan")
    message = "nothing"
    finite = [example for example in examples(8) if "j" not in example.prompt[0]["content"]]
    settings = TrainSettings(**BASIC, batch_size=8, epochs=1)
    model.lm_head.weight = torch.nn.Parameter(load_model(world)[0].lm_head.weight.detach())  # untied: "j" is never answered
    try:
        sft(model, tokenizer, [*finite[:4], SFTExample(ask(9), "1")], settings, seed=5, out_dir=out)
    except FloatingPointError as error:
        message = str(error).partition(" with")[0]
    return ranks.all_gather(message)


def sampled(world: Path) -> dict:
    """Turns and critiques of prompts some of which are equal, in an order that mixes them; and what they cost."""
    engine = Engine(*load_model(world))
    policy, prompts = LMPolicy(engine, max_new_tokens=8), [ask(i % 5) for i in range(9)]
    turns = policy.propose(prompts, list(range(9)), 3)
    verdicts = policy.critique(prompts, [["1", "2 3"]] * 9)
    alone = policy.propose(prompts[:1], [7], 2)  # fewer prompts than ranks
    cost = {k: v for k, v in asdict(engine.cost).items() if k != "seconds"}
    return {"turns": [[asdict(turn) for turn in some] for some in [*turns, *alone]], "verdicts": verdicts, "cost": cost}


def everything(world: Path, out: Path) -> dict:
    torch.set_num_threads(1)
    found = {name: train(world, out / name, *case, spoil=True) for name, case in CASES.items()}
    found["policy gradient"] = reinforce(world, out / "policy gradient", 3, dialogues)
    found["policy gradient, one turn"] = reinforce(
        world, out / "policy gradient, one turn", 1, lambda update: [dialogues(update)[0][:1]]
    )
    found["value"] = value(world, out / "value")
    found["saved"] = train(world, out / "saved", examples(19), SAVED)
    if (world / "one").exists():
        found["resumed"] = train(world, world / "one", examples(19), SAVED)
    found["broken"] = broken(world, out / "broken")
    return found | {"sampled": sampled(world), "ranks": ranks.world_size()}


def main() -> None:
    world, out = map(Path, sys.argv[1:])
    ranks.join()
    found = everything(world, out)
    if ranks.rank() == 0:
        (out / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
