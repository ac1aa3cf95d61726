"""A half-taught nano base model for Countdown, and units of Agent Q on it, in temporary folders."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch

from common.envs.build import build_all
from common.envs.versions.countdown_v1 import CountdownEnv, build_panels
from common.learn.batches import SFTExample
from common.learn.policy import sft
from common.learn.settings import TrainSettings
from common.lm.models import new_nano, save_model
from common.lm.tokenizer import ASSISTANT, END, USER, train_tokenizer
from common.rng import generator
from common.sweep.unit import Unit
from tests.papers.small_shop import build_instructed
from tests.papers.units import open_unit
from tests.papers.worlds import WORLDS


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def world_of(tmp_path_factory):
    """``world_of(env)``: the small world of an environment, built once a session."""
    @cache
    def build(env: str) -> Path:
        return WORLDS[env](tmp_path_factory.mktemp("world"))

    return build


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("lab") / "data"
    build_all(folder)
    return folder


def demonstrations() -> list[SFTExample]:
    """Right actions with the critic's yes; at half of the steps another admissible action with its no."""
    env, rng, found = CountdownEnv(), generator("half-taught"), []
    for task in build_panels(0)["demos"]:
        seen = env.reset(task)
        while not seen.done:
            prompt, (action, _) = env.prompt(), env.expert(rng)
            found.append(SFTExample(prompt, f"{action}{END}{USER}good?{END}{ASSISTANT}yes"))
            other = env.actions()[int(rng.integers(len(env.actions())))]
            if other != action and rng.random() < 0.5:
                exchange = ({"role": "assistant", "content": other}, {"role": "user", "content": "good?"})
                found.append(SFTExample((*prompt, *exchange), "no"))
            seen = env.step(action)
    return found


@pytest.fixture(scope="session")
def base(data, tmp_path_factory) -> Path:
    """Solves about one task in twelve, so that trees hold both right and wrong actions. It learns from
    demonstrations of its own, so that changing the real base models does not move these tests."""
    examples = demonstrations()
    texts = [f"{e.prompt[0]['content']} {e.completion}" for e in examples] + ["good?", "yes", "no"] * 50
    tokenizer = train_tokenizer(texts, 400, split_digits=False)
    model = new_nano(tokenizer, width=48, layers=2, heads=4, context=96, seed=0)
    settings = TrainSettings(lr=8e-3, max_steps=200, batch_size=64, max_length=96, warmup=0.1)
    sft(model, tokenizer, examples, settings, seed=0, out_dir=tmp_path_factory.mktemp("sft"))
    folder = data.parent / "base"
    save_model(model, tokenizer, folder)
    return folder


@pytest.fixture(scope="session")
def instructed_shop(tmp_path_factory) -> Path:
    """A small shop whose policy stands for a pretrained chat model."""
    return build_instructed(tmp_path_factory.mktemp("instructed"))


@pytest.fixture(scope="session")
def new_unit(data, base):
    """``new_unit(root, seed=0, overrides={…})``: an open unit of agent_q on countdown-v1 at the smoke profile."""

    def make(root: Path, *, seed: int = 0, overrides: dict | None = None) -> Unit:
        return open_unit(data.parent, "agent_q", "countdown-v1", root, seed=seed, **(overrides or {}))

    return make
