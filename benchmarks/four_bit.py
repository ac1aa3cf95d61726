"""What 4-bit weights cost: ``GSM8K_DATA=folder python -m benchmarks.four_bit SmolLM2-135M-Instruct`` prints a model's memory
and its perplexity on GSM8K's own solutions, as it is and with 4-bit weights.

The packaged SmolLM2 was rounded before, from weights that are not there to be compared with. What that cost is estimated by
an equal error once more (``shaken``): near a minimum the loss is quadratic, so a second independent error of the same size
adds about as much as the first one did.
"""

from __future__ import annotations

import argparse
import math
import statistics
from pathlib import Path

import torch

from common.envs import load_panel, make
from common.envs.versions import gsm8k_v1
from common.lm.adapters import merge_adapters
from common.lm.device import on_device
from common.lm.engine import Engine
from common.lm.models import load_model
from common.lm.pretrained import folder_of

ROOT = Path(__file__).resolve().parents[1]


def solutions(n: int) -> list[tuple[tuple[dict[str, str], ...], str]]:
    """The first ``n`` training problems, asked as the environment asks them, and GSM8K's solutions."""
    env, found = make(gsm8k_v1.ENV_ID, ROOT / "data"), []
    written = {row["question"].strip(): row["answer"] for row in gsm8k_v1.rows()["train"]}
    for task in load_panel(ROOT / "data", f"{gsm8k_v1.ENV_ID}/train")[:n]:
        env.reset(task)
        found.append((env.prompt(), written[task.data["question"]]))
    return found


def nats(engine: Engine, examples: list[tuple[tuple[dict[str, str], ...], str]]) -> list[float]:
    """−log p of each solution with its end of turn."""
    scores = engine.score([prompt for prompt, _ in examples], [[text] for _, text in examples])
    return [-score for [score] in scores]


def shaken(model: torch.nn.Module, seed: int) -> float:
    """Add to each block of 32 weights that takes 16 values at most, as those of Q4_1 do, an error uniform over one of its
    steps, as rounding leaves it. The share of weights in such blocks."""
    rng, inside, total = torch.Generator().manual_seed(seed), 0, 0
    for weight in model.parameters():
        total += weight.numel()
        if weight.dim() == 2 and weight.shape[1] % 32 == 0:
            blocks = weight.data.view(-1, 32)
            ranked = blocks.sort(1).values
            few = (ranked.diff(dim=1) > 0).sum(1, keepdim=True) < 16
            step = (ranked[:, -1:] - ranked[:, :1]) / 15
            blocks += few * step * (torch.rand(blocks.shape, generator=rng) - 0.5)
            inside += 32 * int(few.sum())
    return inside / total


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("model", help="a model of pretrained/, by name")
    ask.add_argument("--problems", type=int, default=100)
    given = ask.parse_args()
    examples, first = solutions(given.problems), []
    for name in ("as it is", "4 bits", "as it is, with Q4_1's error once more"):
        model, tokenizer = load_model(folder_of(ROOT, given.model), four_bit=name == "4 bits")
        size = sum(weight.nbytes for weight in model.parameters()) / 1e6
        if name.endswith("once more"):
            name += f" in {shaken(model, seed=0):.0%} of its weights"
        engine = Engine(merge_adapters(on_device(model, tokenizer)[0]), tokenizer)  # multiplied out: as it predicts, and faster
        found, tokens = nats(engine, examples), sum(len(engine.action_ids(text)) for _, text in examples)
        print(f"{name}: {size:.0f} MB, {sum(found) / tokens:.4f} nats a token, perplexity {math.exp(sum(found) / tokens):.3f}", end="")
        more = [b - a for a, b in zip(first, found, strict=True)] if first else []
        first = first or found
        print(f"; {statistics.fmean(more):+.2f} nats a solution of {tokens / len(examples):.0f} tokens on average (standard error "
              f"{statistics.stdev(more) / math.sqrt(len(more)):.2f})" if more else "", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
