"""Base models: demonstrations, requests to try again, and training that repeats byte for byte."""

from __future__ import annotations

import json
from itertools import product

import pytest

from common.envs import ENV_IDS, load_panel, make
from common.envs.build import build_all
from common.envs.countdown import descending
from common.envs.versions.countdown_v1 import CountdownEnv, build_panels
from common.learn.batches import encode
from common.base import CRITIC_QUESTION, demonstrations, pass_rates, train_base
from common.lm.bases import has_base, settings_for
from common.lm.engine import Engine
from common.lm.models import load_model
from common.lm.policy import LMPolicy
from common.lm.tokenizer import ASSISTANT, END, USER, train_tokenizer
from common.rng import derive
from common.search.rollout import rollout
from common.types import Turn

ENVS = ("countdown-v1", "shop-v1", "countdown-answer-v1", "arithmetic-v1")
TESTED = dict.fromkeys(ENVS, ("test", "validation", "train"))
TESTED |= {"shop-v1": ("test", "test_products", "validation", "train")}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    build_all(folder)
    return folder


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    return folder, train_base("countdown-v1", "smoke", data, folder)


def test_demonstrations_by_hand(data):
    env, tasks = CountdownEnv(), build_panels(0)["demos"][:60]
    examples = demonstrations(env, tasks, seed=3, repeats=2)
    yes = f"{END}{USER}{CRITIC_QUESTION}{END}{ASSISTANT}yes"
    acts = [e for e in examples if e.completion != "no"]
    doubts = [e for e in examples if e.completion == "no"]
    assert len(acts) == 60 * 2 * 2 and all(e.completion.endswith(yes) and len(e.prompt) == 1 for e in acts)
    assert 0.05 * len(acts) < len(doubts) < 0.95 * len(acts)
    shown = {(e.prompt[0]["content"], e.completion.removesuffix(yes)) for e in acts}
    for one in doubts:
        state, action, question = one.prompt
        assert (action["role"], question) == ("assistant", {"role": "user", "content": CRITIC_QUESTION})
        numbers, target = state["content"].removeprefix("numbers ").split(" target ")
        env.restore(env.reset(tasks[0]) and env.snapshot()._replace(
            numbers=descending(list(map(int, numbers.split()))), target=int(target)))  # fmt: skip
        # another admissible action, or one that was demonstrated in some state
        assert action["content"] in env.actions() or action["content"] in {act for _, act in shown}
        assert any(state["content"] == prompt for prompt, _ in shown)
    # every demonstrated action keeps the target in reach
    for prompt, action in shown:
        numbers, target = prompt.removeprefix("numbers ").split(" target ")
        held = descending(list(map(int, numbers.split())))
        env.restore(env.snapshot()._replace(numbers=held, target=int(target), used=0, over=False))
        assert env.q(env.snapshot(), action) > 0


def test_a_task_s_demonstration_depends_on_no_other_task(data):
    env, tasks = make("shop-v1", data), load_panel(data, "shop-v1/demos")[:6]
    forward, backward = (demonstrations(env, one, seed=0, repeats=1) for one in (tasks, tasks[::-1]))
    acts = [sorted((e for e in found if e.completion != "no"), key=repr) for found in (forward, backward)]
    assert acts[0] == acts[1] and len(acts[0]) > len(tasks)
    assert demonstrations(env, tasks, seed=1, repeats=1) != forward


@pytest.mark.parametrize("env_id", ENVS)
def test_no_evaluated_task_is_seen_in_a_demonstration(env_id, data):
    env = make(env_id, data)
    demos = load_panel(data, f"{env_id}/demos")[:200]
    shown = {example.prompt[0]["content"] for example in demonstrations(env, demos, seed=0, repeats=1)}
    ids = {task.id for task in load_panel(data, f"{env_id}/demos")}
    for panel in TESTED[env_id]:
        tasks = load_panel(data, f"{env_id}/{panel}")
        assert tasks and not ids & {task.id for task in tasks}
        for task in tasks:
            env.reset(task)
            assert env.prompt()[0]["content"] not in shown


@pytest.mark.parametrize("env_id", ENVS)
def test_panels_share_no_goal(env_id, data):
    names = (*TESTED[env_id], "demos")

    def goals(name: str) -> set[str]:
        return {json.dumps({k: v for k, v in task.data.items() if k != "queries"}, sort_keys=True)
                for task in load_panel(data, f"{env_id}/{name}")}  # fmt: skip

    held = {name: goals(name) for name in names}
    assert all(a == b or not held[a] & held[b] for a, b in product(names, names))
    if env_id == "shop-v1":
        products = {name: {task.data["product"] for task in load_panel(data, f"shop-v1/{name}")} for name in names}
        assert not products["test_products"] & (products["train"] | products["demos"] | products["validation"])


@pytest.mark.parametrize("env_id", ENVS)
def test_the_longest_demonstration_fits_the_context(env_id, data):
    """With a tokenizer of the real size, and room for a turn."""
    env, chosen = make(env_id, data), settings_for(env_id, "smoke")
    examples = demonstrations(env, load_panel(data, f"{env_id}/demos")[:150], seed=0, repeats=1)
    texts = [f"{e.prompt[0]['content']} {e.completion}" for e in examples]
    tokenizer = train_tokenizer(texts, chosen.vocab, split_digits=chosen.split_digits)
    prompts, completions = encode("t", tokenizer, [e.prompt for e in examples], [e.completion for e in examples],
                                  max_length=chosen.context)  # fmt: skip
    assert max(map(len, prompts)) + 24 <= chosen.context and len(prompts) == len(completions)


def test_smoke_training_repeats_byte_for_byte(data, trained, tmp_path):
    folder, report = trained
    again = train_base("countdown-v1", "smoke", data, tmp_path)
    assert again == report
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "report.json"} <= names
    for name in sorted(names):
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes(), name
    train_base("countdown-v1", "smoke", data, tmp_path, seed=1)
    assert (folder / "model.safetensors").read_bytes() != (tmp_path / "model.safetensors").read_bytes()


def test_the_report_says_what_was_trained(data, trained):
    folder, report = trained
    assert json.loads((folder / "report.json").read_text()) == report
    model, tokenizer = load_model(folder)
    assert report["parameters"] == sum(p.numel() for p in model.parameters())
    assert report["updates"] == settings_for("countdown-v1", "smoke").updates and "seconds" not in report
    assert report["last_loss"] < report["first_loss"]
    tasks = load_panel(data, "countdown-v1/validation")[:8]
    assert pass_rates(CountdownEnv(), Engine(model, tokenizer), tasks, seed=0) == {
        name: report[name] for name in ("pass@1", "pass@8")
    }


def test_pass_rates_by_hand(data):
    """The oracle behind the engine's interface on one task, silence on the other."""
    env, tasks = CountdownEnv(), load_panel(data, "countdown-v1/test")[:2]
    solved = env.reset(tasks[0]).text

    class Half:
        calls = 0

        def sample(self, prompts, keys, **_):
            turns = []
            for prompt in prompts:
                content = prompt[0]["content"]
                first = content == solved
                self.calls += first
                numbers, target = content.removeprefix("numbers ").split(" target ")
                state = descending(list(map(int, numbers.split())))
                env.reset(tasks[0])
                env.restore(env.snapshot()._replace(numbers=state, target=int(target)))
                mine = int(target) == tasks[0].data["target"] and not (first and self.calls > 6)
                turns.append([Turn(env.oracle() if mine else "", 0.0, 1)])
            return turns

    assert tasks[0].data["target"] != tasks[1].data["target"]
    # 6 of 8 episodes of the first task are played well; nothing is solved of the second
    assert pass_rates(env, Half(), tasks, seed=0) == {"pass@1": 6 / 16, "pass@8": 1 / 2}


def test_every_settings_entry_has_its_smoke_form():
    for env_id in filter(has_base, ENV_IDS):
        chosen, small = settings_for(env_id, "cpu"), settings_for(env_id, "smoke")
        assert small.updates <= 20 and small.width < chosen.width and small.context >= chosen.context


def test_the_policy_s_own_prompts_stay_within_the_context(data, trained):
    model, tokenizer = load_model(trained[0])
    tasks = load_panel(data, "countdown-v1/test")[:20]
    keys = [derive("k", task.id) for task in tasks]
    episodes = rollout(CountdownEnv(), tasks, LMPolicy(Engine(model, tokenizer)), keys=keys)
    assert all(len(episode.steps) <= CountdownEnv().max_steps for episode in episodes)
