"""Base models: nano policies trained from scratch on demonstrations, one per environment.

The demonstrator sees what a player sees (``env.expert``); the model learns to act like it and, as a
critic, to tell a demonstrated action from another one that was possible ("good?" yes or no). No
exact value enters: the critic is as noisy as demonstrations make it. Training is short on purpose,
so that there is room for the methods.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch

from common.envs import load_panel, make
from common.envs.contract import Demonstration, Env
from common.learn.batches import SFTExample
from common.learn.monitor import Log
from common.learn.policy import sft
from common.learn.settings import TrainSettings
from common.lm.bases import base_seeds, settings_for
from common.lm.engine import Engine
from common.lm.models import new_nano, save_model
from common.lm.policy import LMPolicy
from common.lm.tokenizer import ASSISTANT, END, USER, train_tokenizer
from common.rng import derive, generator
from common.search.rollout import rollout
from common.types import Task

CRITIC_QUESTION = "good?"
THREADS = 1
"""One, so that two models can be trained side by side (a second thread makes one 1.27 times as fast); fixed, because
the number of threads can change the last bits of a sum."""
CRITIC_SHARE = 0.25
"""Share of demonstrated steps that also show the critic an action that was not taken."""


def demonstrations(env: Env, tasks: list[Task], *, seed: int, repeats: int) -> list[SFTExample]:
    """Acting and critic examples from ``repeats`` demonstrated episodes of each task.

    Each demonstrated step is one example: the action, then the critic's question about it and "yes"
    (loss on all of it; the question is constant). A share of the steps adds another admissible action,
    drawn at random, with "no"; there only the verdict carries loss.
    """
    examples = []
    for task in tasks:
        for repeat in range(repeats):
            rng = generator(seed, "demonstrations", task.id, repeat)
            if hasattr(env, "demonstrations"):
                examples += map(imitated, env.demonstrations(task, rng, CRITIC_QUESTION))
                continue
            observation = env.reset(task)
            while not observation.done:
                prompt, (action, taken) = env.prompt(), env.expert(rng)
                examples.append(SFTExample(prompt, f"{action}{END}{USER}{CRITIC_QUESTION}{END}{ASSISTANT}yes"))
                others = [other for other in env.actions() if other != action]
                if others and rng.random() < CRITIC_SHARE:
                    other = others[int(rng.integers(len(others)))]
                    asked = ({"role": "assistant", "content": other}, {"role": "user", "content": CRITIC_QUESTION})
                    examples.append(SFTExample((*prompt, *asked), "no"))
                observation = env.step(taken)
    return examples


def imitated(shown: Demonstration) -> SFTExample:
    """A demonstrated dialogue as one example."""
    asked, rest = shown.messages[: shown.learned], shown.messages[shown.learned :]
    spoken = [one["content"] if one["role"] == "assistant" else f"{END}{USER}{one['content']}{END}{ASSISTANT}" for one in rest]
    return SFTExample(asked, "".join(spoken))


def later_requests(example: SFTExample) -> list[str]:
    """User messages after the first one, without the critic's question: the requests to try again."""
    requests = [message["content"] for message in example.prompt[1:] if message["role"] == "user"]
    return [text for text in requests if text != CRITIC_QUESTION]


def train_base(
    env_id: str, profile: str, data_dir: Path, out_dir: Path, seed: int = 0, *, log: Log | None = None
) -> dict[str, float]:
    """Train and save the base model of ``env_id`` with its ``report.json``; deterministic in its arguments.

    ``log`` is called with each update's number and metrics.
    """
    chosen = settings_for(env_id, profile)
    torch.set_num_threads(THREADS)
    env = make(env_id, data_dir)
    demos = load_panel(data_dir, f"{env_id}/demos")
    if profile == "smoke":
        demos = demos[:40]
    examples = demonstrations(env, demos, seed=seed, repeats=chosen.repeats)
    texts = [f"{e.prompt[0]['content']} {e.completion}" for e in examples[:5_000]] + [CRITIC_QUESTION, "yes", "no"] * 50
    texts += [request for e in examples[:5_000] for request in later_requests(e)]
    tokenizer = train_tokenizer(texts, chosen.vocab, split_digits=chosen.split_digits)
    model = new_nano(
        tokenizer, width=chosen.width, layers=chosen.layers, heads=chosen.heads, context=chosen.context, seed=seed
    )
    stats = sft(
        model,
        tokenizer,
        examples,
        TrainSettings(
            lr=chosen.lr, max_steps=chosen.updates, batch_size=chosen.batch, max_length=chosen.context, warmup=0.1
        ),
        seed=derive(seed, "base", env_id) % 2**31,
        out_dir=out_dir,
        log=log,
    )
    if base_seeds(env_id) > 1:  # a model for each seed is shipped: in half the bytes, and trained from exactly those
        model.to(torch.bfloat16).to(torch.float32)
    report = {"parameters": sum(p.numel() for p in model.parameters()), "examples": len(examples)}
    report |= {k: v for k, v in asdict(stats).items() if k != "seconds"}
    tasks = load_panel(data_dir, f"{env_id}/validation")
    report |= pass_rates(env, Engine(model, tokenizer), tasks[: 8 if profile == "smoke" else None], seed=seed)
    save_model(model.to(torch.bfloat16) if base_seeds(env_id) > 1 else model, tokenizer, out_dir)
    (Path(out_dir) / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    return report


def pass_rates(env: Env, engine: Engine, tasks: list[Task], *, seed: int, samples: int = 8) -> dict[str, float]:
    """pass@1 (mean success of ``samples`` episodes at temperature 1) and pass@``samples`` on ``tasks``."""
    repeated = [task for task in tasks for _ in range(samples)]
    keys = [derive(seed, "pass", task.id, i % samples) for i, task in enumerate(repeated)]
    wins = [t.success for t in rollout(env, repeated, LMPolicy(engine), keys=keys)]
    groups = [wins[i : i + samples] for i in range(0, len(wins), samples)]
    return {"pass@1": sum(wins) / len(wins), f"pass@{samples}": sum(map(any, groups)) / len(groups)}
