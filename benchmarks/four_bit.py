"""What 4-bit weights cost: ``GSM8K_DATA=folder python -m benchmarks.four_bit SmolLM2-135M-Instruct`` prints a model's memory
and its perplexity on GSM8K's own solutions, as it is and with 4-bit weights."""

from __future__ import annotations

import argparse
import math
import statistics
from pathlib import Path

from common.envs import load_panel, make
from common.envs.versions import gsm8k_v1
from common.lm.adapters import merged
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


def nats(engine: Engine, told: list[tuple[tuple[dict[str, str], ...], str]]) -> list[float]:
    """−log p of each solution with its end of turn."""
    scores = engine.score([prompt for prompt, _ in told], [[text] for _, text in told])
    return [-score for [score] in scores]


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("model", help="a model of pretrained/, by name")
    ask.add_argument("--problems", type=int, default=100)
    given = ask.parse_args()
    told, found = solutions(given.problems), {}
    for four_bit in (False, True):
        model, tokenizer = on_device(*load_model(folder_of(ROOT, given.model), four_bit=four_bit))
        size = sum(weight.nbytes for weight in model.parameters()) / 1e6
        engine = Engine(merged(model), tokenizer)  # multiplied out: the same predictions, several times as fast on a processor
        found[four_bit], tokens = nats(engine, told), sum(len(engine.action_ids(text)) for _, text in told)
        mean = sum(found[four_bit]) / tokens
        name = "4 bits" if four_bit else "as it is"
        print(f"{name}: {size:.0f} MB of weights, {mean:.4f} nats a token, perplexity {math.exp(mean):.3f}", flush=True)
    more = [b - a for a, b in zip(found[False], found[True], strict=True)]
    error = statistics.stdev(more) / math.sqrt(len(more))
    mean, length = statistics.fmean(more), tokens / len(more)
    print(f"difference: {mean:+.2f} nats a solution of {length:.0f} tokens on average, standard error {error:.2f}")


if __name__ == "__main__":
    main()
