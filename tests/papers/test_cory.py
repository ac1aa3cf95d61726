"""CORY's unit: its variants, exchange of roles, budgets by hand; and that it learns, only from what is true. Its shared reward by hand is in test_cory_maths.py.

The world is that of :mod:`tests.papers.sums`: two-number Countdown whose target is always the sum.
"""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from common import lab
from common.evaluate.correction import attempts_of
from common.lab import Lab
from common.learn.policy_gradient import PolicyGradientSettings, adam, leave_one_out
from common.rng import generator
from common.types import Task
from papers.cory import maths, method
from papers.cory.maths import Point, excess, report
from tests.papers.sums import ENV
from tests.papers.units import open_unit


@pytest.fixture(scope="module")
def new_unit(world_of):
    return partial(open_unit, world_of(ENV), "cory", ENV)


@pytest.fixture(scope="module")
def whole(new_unit, tmp_path_factory):
    unit = new_unit(tmp_path_factory.mktemp("whole") / "lab")
    return unit, lab.run(unit)


def policies(unit) -> list[method.Condition]:
    """The variants that are trained."""
    return [v for v in method.variants(unit.params) if v.method and not v.frontier]


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


# -- the unit -------------------------------------------------------------------------------------------------


def test_every_variant_samples_and_updates_as_much(whole):
    unit, rows = whole
    p, cost = unit.params.rl, {row.variant: row.cost for row in rows}
    answers = p.updates * p.tasks * p.group * 2
    names = ["single", "single@eta=0.2", "cory", "cory@eta=0.2", "cory_reset", "cory_no_exchange", "cory_blind"]
    assert [variant.name for variant in policies(unit)] == names
    for variant in policies(unit):
        spent = cost[variant.name]
        assert spent["samples"] == spent["env_steps"] == answers, variant.name
        assert spent["updates"] == 2 * p.updates and spent["sampled_tokens"] > 0
    for name in method.FRONTIERS:
        assert cost[f"{name}_frontier"]["samples"] == answers * (1 + len(p.other_etas))
    assert set(cost["base"].values()) == {0}


def test_rows_agree_with_each_other(whole):
    unit, rows = whole
    found = {(row.variant, row.metric): row.value for row in rows}
    for name in ("base", "cory", "cory_reset", "cory_no_exchange", "cory_blind"):
        assert found[name, "success"] == found[name, "acc@1"]
        assert found[name, "delta"] == pytest.approx(found[name, "i2c"] - found[name, "c2i"], abs=1e-12)
    assert found["base", "kl"] < 1e-5 < found["cory", "kl"]
    points = {v: Point(found[v.name, "kl"], found[v.name, "success"]) for v in policies(unit)}
    curves = {name: [at for v, at in points.items() if v.method == name] for name in method.FRONTIERS}
    for name, metrics in report(curves, found["base", "success"], upto=unit.params.test.nats).items():
        assert metrics == {metric: found[f"{name}_frontier", metric] for metric in metrics}
    for variant, at in points.items():
        assert found[variant.name, "excess"] == excess(at, curves["single"], found["base", "success"])
    assert max(found[name, "excess"] for name in ("single", "single@eta=0.2")) <= 1e-12


def test_dialogues_are_kept_to_be_read(whole):
    for name in ("base", "cory", "cory_blind"):
        lines = (whole[0].run.artifacts / f"dialogues.{name}.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        assert len(records) == 2 * whole[0].params.test.tasks and len({line["task"] for line in records}) == len(records) / 2
        assert {line["role"] for line in records} == set(method.ROLES)
        assert all("numbers" in line["prompt"] for line in records)


# -- its parts, by hand -----------------------------------------------------------------------------------------


def test_exchange_is_due_after_every_t_updates():
    assert [u for u in range(1, 12) if method.exchange_due(u, 5)] == [6, 11]
    assert [u for u in range(1, 5) if method.exchange_due(u, 1)] == [2, 3, 4]


def test_an_exchange_swaps_roles_and_keeps_weights_and_adam_s_state():
    chosen = PolicyGradientSettings(lr=0.1, updates=9, max_length=9)

    def agent(start: float) -> method.Agent:
        model = torch.nn.Linear(2, 1)
        torch.nn.init.constant_(model.weight, start)
        mine = method.Agent(SimpleNamespace(model=model), adam(model, chosen))
        model(torch.ones(1, 2)).sum().backward()
        mine.optimiser.step()
        return mine

    pair = [agent(1.0), agent(2.0)]
    before = [[w.detach().clone() for w in one.engine.model.parameters()] for one in pair]
    swapped = method.exchanged(pair, chosen, reset=False)
    assert swapped[0] is pair[1] and swapped[1] is pair[0] and all(one.optimiser.state for one in swapped)
    assert method.exchanged(swapped, chosen, reset=False) == pair
    anew = method.exchanged(pair, chosen, reset=True)
    assert [one.engine for one in anew] == [pair[1].engine, pair[0].engine]
    assert not any(one.optimiser.state for one in anew)
    for one, old in zip((pair[1], pair[0]), reversed(before)):
        assert all(torch.equal(a, b) for a, b in zip(one.engine.model.parameters(), old, strict=True))


def played(unit, name: str, monkeypatch) -> list[tuple[int, int, int, str]]:
    """(update, model, steps its Adam has made, first word of a prompt's last message) of every update of ``name``."""
    seen, plain = [], method.policy_gradient_step

    def spy(model, reference, tokenizer, dialogues, optimiser, settings, update, **rest):
        state = [int(s["step"]) for s in optimiser.state.values()]
        asked = next(turn.prompt for one in dialogues for turn in one)
        seen.append((update, id(model), max(state, default=0), asked[-1]["content"].split()[0]))
        return plain(model, reference, tokenizer, dialogues, optimiser, settings, update, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(method, "policy_gradient_step", spy)
        [variant] = [v for v in method.variants(unit.params) if v.name == name]
        method.train(Lab(unit, method), variant)
    return seen


@pytest.mark.parametrize("name", ["cory", "cory_reset", "cory_no_exchange", "cory_blind"])
def test_roles_are_exchanged_every_t_updates(new_unit, tmp_path, monkeypatch, name):
    unit = new_unit(tmp_path / "lab", rl__updates=6, rl__exchange_every=2)
    seen = played(unit, name, monkeypatch)
    pioneers, observers = seen[::2], seen[1::2]
    a, b = pioneers[0][1], observers[0][1]
    assert a != b
    stays = name == "cory_no_exchange"
    assert [model for _, model, _, _ in pioneers] == ([a] * 6 if stays else [a, a, b, b, a, a])
    assert [model for _, model, _, _ in observers] == ([b] * 6 if stays else [b, b, a, a, b, b])
    steps = [0, 1, 0, 1, 0, 1] if name == "cory_reset" else list(range(6))
    assert [done for _, _, done, _ in pioneers] == [done for _, _, done, _ in observers] == steps
    assert {word for *_, word in pioneers} == {"numbers"}
    assert {word for *_, word in observers} == {"numbers" if name == "cory_blind" else "check"}


def test_variants_differ_in_what_they_say_and_in_nothing_else(new_unit, tmp_path):
    """With no exchange due, exchange and reset make no difference; under another name nothing does."""
    unit = new_unit(tmp_path / "lab", rl__exchange_every=4)
    every, work = {v.name: v for v in method.variants(unit.params)}, Lab(unit, method)
    twins = [*(every[name] for name in ("cory", "cory_reset", "cory_no_exchange")),
             dataclasses.replace(every["cory"], name="null"), every["cory_blind"]]  # fmt: skip
    *same, blind = [[weights(work.run.stage_path(method.train(work, v).stage) / role) for role in method.ROLES]
                     for v in twins]  # fmt: skip
    assert same[0] == same[1] == same[2] == same[3] != blind
    assert len({*same[0], weights(unit.base)}) == 3  # two agents, neither of them the base any more


def test_the_observer_reads_the_pioneer_and_the_blind_one_does_not(new_unit, tmp_path):
    work = Lab(new_unit(tmp_path / "lab"), method)
    engine, tasks = work.engine(), [Task(f"t{i}", ENV, "test", {"numbers": [9, i], "target": 9 + i}) for i in range(1, 9)]
    found = {}
    for blind in (False, True):
        asked = []

        class RecordingEngine(type(engine)):
            def sample(self, prompts, keys, **how):
                asked.append([tuple(message["content"] for message in prompt) for prompt in prompts])
                return super().sample(prompts, keys, **how)

        team = method.policies(work, [RecordingEngine(engine.model, engine.tokenizer) for _ in range(2)], blind=blind)
        _, episodes = work.sample(team, tasks, "read", turns=2)
        correct = attempts_of(work.env, tasks, episodes).correct
        _, lesson = maths.credited(episodes, correct, group=2, eta=0.0, blind=blind)
        taught = [turn.prompt for one in lesson for turn in one]
        found[blind] = [one.steps[0].turn.text for one in episodes]
        first, second = asked
        for one, question, seen in zip(episodes, first, second, strict=True):
            assert seen == (question if blind else (*question, one.steps[0].turn.text, work.env.RETRY))
        # what it learns from is what it has seen
        assert taught and {tuple(m["content"] for m in prompt) for prompt in taught} <= set(second)
        if blind:
            assert [one.steps[1].turn.text for one in episodes] != found[True]  # its own draws
    assert found[False] == found[True]  # the pioneer's answers


def test_the_kl_of_a_trained_agent_by_hand(whole):
    """From whole forward passes of transformers' own model, token by token, over the answers it samples."""
    unit, rows = whole
    work = Lab(unit, method)
    engine, base = work.engine(lab.Trained("train.single"), "pioneer"), work.engine()
    tasks = work.panels["test"][: unit.params.test.tasks]
    _, episodes = work.sample(work.policy(engine), tasks, "evaluate", group=unit.params.test.draws, turns=1)
    total = 0.0
    for one in episodes:
        [step] = one.steps
        before = engine.prompt_ids(step.prompt)
        answer_ids = engine.action_ids(step.turn.text)[: None if step.turn.finished else -1]
        with torch.no_grad():
            ids = torch.tensor([before + answer_ids])
            logp, logq = (torch.log_softmax(e.model(ids).logits[0, len(before) - 1 : -1].double(), -1)
                          for e in (engine, base))  # fmt: skip
        total += float((logp.exp() * (logp - logq)).sum())
    [row] = [r for r in rows if (r.variant, r.metric) == ("single", "kl")]
    assert row.value == pytest.approx(total / len(episodes), rel=1e-3, abs=1e-6) and row.value > 0


# -- does it learn? -----------------------------------------------------------------------------------------------

LEARN = {"rl__updates": 20, "rl__exchange_every": 5, "rl__tasks": 12, "rl__group": 4, "rl__lr": 3e-3, "rl__eta": 0.02,
         "test__tasks": 28, "test__draws": 4}  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(new_unit, tmp_path_factory) -> dict[str, dict[str, float]]:
    """Sampled report on held-out numbers, of one seed."""
    found = {}
    rng = generator("shuffled")

    def shuffled(rewards: torch.Tensor) -> torch.Tensor:
        return leave_one_out(rewards.flatten()[torch.from_numpy(rng.permutation(rewards.numel()))].view_as(rewards))

    for name in ("base", "single", "cory", "cory_blind", "shuffled"):
        work = Lab(new_unit(tmp_path_factory.mktemp("learn") / "lab", **LEARN), method)
        every = {v.name: v for v in method.variants(work.p)}
        variant = every.get(name, every["cory"])
        with pytest.MonkeyPatch.context() as patch:
            if name == "shuffled":
                patch.setattr(maths, "leave_one_out", shuffled)
            trained = method.train(work, variant)
        [measured] = method.evaluate(work, variant, trained)
        found[name] = measured.metrics
    print({name: {k: round(v, 3) for k, v in one.items()} for name, one in found.items()})
    return found


def test_training_raises_the_pioneer_s_answers_and_the_observer_s(outcomes):
    base = outcomes["base"]
    assert 0.1 < base["success"] < 0.6
    for name in ("single", "cory"):
        assert outcomes[name]["success"] > base["success"] + 0.1, name
    assert outcomes["cory"]["acc@2"] > base["acc@2"] + 0.1
    assert outcomes["cory"]["observer_success"] > base["success"] + 0.1


def test_shuffled_rewards_teach_nothing(outcomes):
    gains = {name: outcomes[name]["success"] - outcomes["base"]["success"] for name in ("cory", "shuffled")}
    assert gains["shuffled"] < gains["cory"] / 3
