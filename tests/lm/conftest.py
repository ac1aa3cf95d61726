"""A nano model that has learnt a little, so that its samples look like text, and one that is random."""

from __future__ import annotations

import copy

import pytest
import torch

from common.envs.versions.countdown_v1 import CountdownEnv, build_panels
from common.learn.batches import SFTExample
from common.learn.policy import sft
from common.learn.settings import TrainSettings
from common.lm.models import new_nano
from common.lm.tokenizer import ASSISTANT, END, USER, train_tokenizer
from common.rng import generator

CONTEXT = 96


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def examples():
    """Demonstrated steps, each followed by the critic's question and "yes"."""
    env, rng, found = CountdownEnv(), generator("tests of the engine"), []
    for task in build_panels(0)["demos"][:150]:
        seen = env.reset(task)
        while not seen.done:
            action, _ = env.expert(rng)
            found.append(SFTExample(env.prompt(), f"{action}{END}{USER}good?{END}{ASSISTANT}yes"))
            seen = env.step(action)
    return found


@pytest.fixture(scope="session")
def tokenizer(examples):
    texts = [f"{example.prompt[0]['content']} {example.completion}" for example in examples]
    return train_tokenizer([*texts, *["good? yes no"] * 50], 330, split_digits=False)


@pytest.fixture(scope="session")
def _trained(tokenizer, examples, tmp_path_factory):
    model = new_nano(tokenizer, width=32, layers=2, heads=2, context=CONTEXT, seed=0)
    settings = TrainSettings(lr=5e-3, max_steps=80, batch_size=32, max_length=CONTEXT, warmup=0.1)
    sft(model, tokenizer, examples, settings, seed=0, out_dir=tmp_path_factory.mktemp("sft"))
    return model.eval()


@pytest.fixture
def model(_trained):
    """Two layers, 30 thousand parameters; a copy, so that a test may change it."""
    return copy.deepcopy(_trained)


@pytest.fixture
def random_model(tokenizer):
    """Untrained and far from uniform: its samples are arbitrary bytes."""
    model = new_nano(tokenizer, width=32, layers=2, heads=2, context=CONTEXT, seed=1)
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(3.0)
    return model.eval()
