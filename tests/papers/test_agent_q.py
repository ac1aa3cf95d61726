"""Agent Q's unit: budgets by hand, artifacts, units in words; its parts by hand; adapters."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from common.config import ConfigError
from common.envs.shop.instruction import BEFORE
from common.envs.steps import INSTRUCTION
from common.envs.versions.countdown_v1 import CountdownEnv, build_panels
from common.evaluate.claims import load_claims
from common.lab import Lab, run
from common.lm.engine import Engine
from common.search.tree import Tree
from common.types import Observation, Step, Task, Trajectory, Turn
from papers.agent_q import maths, method
from tests.papers import riddles
from tests.papers.units import adapters_alone_moved, open_unit

CLAIMS = Path(method.__file__).with_name("claims.yaml")


@pytest.fixture(scope="module")
def whole(new_unit, tmp_path_factory):
    """One complete unit at the smoke profile."""
    unit = new_unit(tmp_path_factory.mktemp("whole") / "lab")
    return unit, run(unit)


# -- the unit -------------------------------------------------------------------------------------------------


def test_a_baseline_spends_the_budget_of_each_round_and_less_than_one_episode_more(whole):
    unit, rows = whole
    costs = {row.variant: row.cost for row in rows}

    def cost(name: str, r: int, axis: str) -> int:
        """Of the round alone: rows hold what all rounds cost."""
        return costs[name][axis] - costs[f"{name}_r1"][axis] if r == 2 else costs[f"{name}_r1"][axis]

    for r in (1, 2):
        for name in ("rft", "traj_dpo"):
            over = cost(name, r, "env_steps") - cost("agent_q", r, "env_steps")
            assert 0 <= over < CountdownEnv().max_steps
        trees = unit.params.search.env_steps * unit.params.collect.tasks
        assert 0 < cost("agent_q", r, "env_steps") <= trees and cost("agent_q", r, "sampled_tokens") > 0
    assert costs["agent_q@theta=0.5"] == costs["agent_q_r1"]


def test_each_metric_says_of_how_many_tasks_it_is_the_mean(whole):
    unit, rows = whole
    p, held = unit.params, {(row.variant, row.panel, row.metric): row.n for row in rows}
    assert held["agent_q", "countdown-v1/test", "success"] == p.test.tasks
    assert held["agent_q", "countdown-v1/test", "greedy_success"] == p.test.tasks
    assert held["agent_q", "countdown-v1/test", "planned_success"] == p.test.planned_tasks
    assert held["agent_q+mcts", "countdown-v1/test", "planned_success"] == p.test.planned_tasks
    assert held["rft_r1", "countdown-v1/train", "episodes"] == p.collect.tasks


def test_artifacts_are_there_to_look_at(whole):
    folder = whole[0].run.artifacts
    for name in ("tree.r1.0.json", "tree.r1.0.html", "pairs.r1.jsonl", "rollouts.base.jsonl", "rollouts.agent_q.jsonl"):
        assert (folder / name).is_file(), name
    assert all(json.loads(line) for line in (folder / "rollouts.base.jsonl").read_text().splitlines())


# -- in words, from a pretrained model ---------------------------------------------------------------------------


def test_it_runs_in_words_from_a_model_that_has_a_name(instructed_shop, tmp_path, monkeypatch):
    asked, judge = set(), Engine.judge

    def listening(engine, prompts, actions, *, question):
        asked.add((question, *{prompt[0]["role"] for prompt in prompts}))
        return judge(engine, prompts, actions, question=question)

    monkeypatch.setattr(Engine, "judge", listening)
    unit = open_unit(instructed_shop, "agent_q", "shop-v1", tmp_path / "lab", model="someone/chat@1", critic="A good action?",
                     search__env_steps=24, search__branching=3, search__simulations=8, learn__theta=0.1)  # fmt: skip
    rows = run(unit)
    assert {row.scale for row in rows} == {"someone/chat@1"} and asked == {("A good action?", "system")}
    found = {(row.variant, row.panel, row.metric): row.value for row in rows}
    written = load_claims(CLAIMS)
    mine = [claim for claim in written.claims if claim.env == "shop-v1"]
    assert mine and all((v, claim.panel, claim.metric) in found for claim in mine for v in claim.variants)
    assert (written.checks[0].terms[0].variant, "shop-v1/test", written.checks[0].terms[0].metric) in found  # what tells the floor
    for name in ("base", "rft", "traj_dpo", "agent_q"):
        assert 0 < found[name, "shop-v1/test", "invalid"] < 1
    pairs = [json.loads(line) for line in (unit.run.artifacts / "pairs.r1.jsonl").read_text().splitlines()]
    assert pairs and all(tuple(pair["prompt"][: len(BEFORE)]) == BEFORE for pair in pairs)
    assert found["agent_q", "shop-v1/train", "pair_count"] > 0


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """A small world of prose whose policy was shown solutions line by line."""
    return riddles.build_lines(tmp_path_factory.mktemp("lines"))


def test_it_runs_line_by_line_from_a_model_that_has_a_name(lines, tmp_path, monkeypatch):
    riddles.stand_in(monkeypatch)
    env, asked, judge, kept = "reasoning-gym-steps-v1", set(), Engine.judge, set()

    def listening(engine, prompts, actions, *, question):
        asked.add(question)
        return judge(engine, prompts, actions, question=question)

    def sampled(engine, prompts, *args, max_new_tokens, **kwargs):
        kept.update((max_new_tokens, prompt[0]["content"]) for prompt in prompts)
        return sample(engine, prompts, *args, max_new_tokens=max_new_tokens, **kwargs)

    sample = Engine.sample
    monkeypatch.setattr(Engine, "judge", listening)
    monkeypatch.setattr(Engine, "sample", sampled)
    unit = open_unit(lines, "agent_q", env, tmp_path / "lab", model="someone/chat@1", critic="A right line?",
                     answer_tokens=20, search__env_steps=24, search__branching=3, search__simulations=8,
                     learn__theta=0.1, test__tasks=30)  # fmt: skip
    rows = run(unit)
    assert {row.scale for row in rows} == {"someone/chat@1"} and {row.env for row in rows} == {env}
    assert asked == {"A right line?"} and kept == {(20, INSTRUCTION)}  # and nothing of the shop before it
    found = {(row.variant, row.panel, row.metric): row.value for row in rows}
    written = load_claims(CLAIMS)
    mine = [claim for claim in written.claims if claim.env == env]
    assert len({claim.id for claim in mine}) == 5
    assert all((variant, claim.panel, claim.metric) in found for claim in mine for variant in claim.variants)
    assert 0.05 < found[written.checks[0].terms[0].variant, f"{env}/test", written.checks[0].terms[0].metric] < 0.95
    assert all(0 <= found[name, f"{env}/test", "invalid"] < 1 for name in ("base", "rft", "traj_dpo", "agent_q"))
    pairs = [json.loads(line) for line in (unit.run.artifacts / "pairs.r1.jsonl").read_text().splitlines()]
    assert pairs and found["agent_q", f"{env}/train", "pair_leaked"] == 0
    for part in ("#### ", " likes "):  # pairs of answers and of lines before them
        assert any(part in pair["chosen"] for pair in pairs), part
    assert found["agent_q@theta=0.0", f"{env}/train", "pair_accuracy"] > 0.5


def test_a_model_that_has_a_name_is_refused_where_nothing_explains_the_actions(new_unit, tmp_path):
    with pytest.raises(ConfigError, match="countdown-v1 has no instruction"):
        run(new_unit(tmp_path / "lab", overrides={"model": "someone/chat@1"}))


def test_nano_policies_get_no_instruction(whole):
    assert not {row.metric for row in whole[1]} & {"invalid"} and {row.scale for row in whole[1]} == {"nano"}


# -- its parts, by hand ---------------------------------------------------------------------------------------


def episode(task: str, texts: str, reward: float, *, cut: bool = False, logprob: float = -1.0) -> Trajectory:
    """One step a letter; the last one ends with ``reward``."""
    steps = []
    for i, text in enumerate(texts):
        last = i == len(texts) - 1
        turn = Turn(text, logprob * (i + 1), 2, finished=not (cut and last))
        seen = Observation("", reward if last else 0.0, terminated=last)
        steps.append(Step(({"role": "user", "content": f"{task}:{texts[:i]}"},), turn, seen))
    return Trajectory(task, tuple(steps))


EPISODES = [
    episode("a", "xy", 0.0), episode("a", "xyz", 1.0), episode("a", "pq", 1.0), episode("a", "pq", 1.0),
    episode("a", "w", 1.0, cut=True), episode("b", "x", 0.5), episode("a", "k", 0.25), episode("c", "m", 1.0),
]  # fmt: skip


def test_episodes_by_task_are_distinct_finished_and_best_first():
    groups = maths.by_task(EPISODES)
    shown = {task: ["".join(s.turn.text for s in e.steps) for e in group] for task, group in groups.items()}
    assert shown == {"a": ["pq", "xyz", "k", "xy"], "b": ["x"], "c": ["m"]}


def test_episode_pairs_set_best_against_worst():
    pairs = maths.episode_pairs(EPISODES, theta=0.2, most=4)
    shown = [("".join(t.action for t in p.chosen), "".join(t.action for t in p.rejected)) for p in pairs]
    assert shown == [("pq", "xy"), ("xyz", "k")]  # b and c have one episode each
    first = pairs[0]
    assert [t.ref_logp for t in first.chosen] == [-1.0, -2.0]
    assert first.chosen[1].prompt == ({"role": "user", "content": "a:p"},)
    assert len(maths.episode_pairs(EPISODES, theta=0.2, most=1)) == 1
    # differences of 1 and 0.75: the threshold is exceeded strictly
    assert len(maths.episode_pairs(EPISODES, theta=0.75, most=4)) == 1
    assert maths.episode_pairs(EPISODES, theta=1.0, most=4) == []


def test_successes_are_every_step_of_episodes_with_reward_one():
    found = [(e.prompt[-1]["content"], e.completion) for e in maths.successes(EPISODES)]
    assert found == [("a:", "p"), ("a:p", "q"), ("a:", "x"), ("a:x", "y"), ("a:xy", "z"), ("c:", "m")]


def test_a_tree_is_rewarded_by_any_of_its_simulations():
    tree = Tree("t", "e", 0, {"gamma": 0.9, "alpha": 0.5})
    assert not maths.rewarded(tree)
    child = tree.add_child(0, action="x")
    tree.nodes[child].returns.append(0.0)
    assert not maths.rewarded(tree)
    tree.nodes[child].returns.append(0.9**5)
    assert maths.rewarded(tree)


class Steady:
    """Plays a fixed legal game of two steps; every turn costs three tokens."""

    def __init__(self) -> None:
        self.env = CountdownEnv()

    def propose(self, prompts, keys, n):
        answers = []
        for prompt in prompts:
            numbers = prompt[0]["content"].removeprefix("numbers ").split(" target ")[0].split()
            answers.append([Turn(f"{numbers[0]} + {numbers[1]}", -1.0, 3)] * n)
        return answers


@pytest.mark.parametrize(("budget", "episodes"), [(0, 0), (1, 1), (2, 1), (3, 2), (10, 5), (11, 6)])
def test_episodes_stop_where_the_budget_is_reached(budget, episodes):
    """Tasks in turn, two steps an episode."""
    tasks = build_panels(0)["train"][:3]
    kept = maths.within_budget(CountdownEnv(), tasks, Steady(), seed=0, budget=budget)
    assert [e.task_id for e in kept] == [tasks[i % 3].id for i in range(episodes)]
    assert budget <= sum(len(e.steps) for e in kept) < budget + 2
    longer = maths.within_budget(CountdownEnv(), tasks, Steady(), seed=0, budget=30)
    assert longer[: len(kept)] == kept  # a larger budget only adds episodes


def test_rounds_take_new_tasks_in_an_order_of_the_seed(new_unit, tmp_path):
    first, other = (Lab(new_unit(tmp_path / f"lab{s}", seed=s), method) for s in (0, 1))
    own = [variant for variant in method.variants(first.p) if variant.line == "agent_q"]
    one, two = (method.round_tasks(first, variant) for variant in own)
    assert len({task.id for task in [*one, *two]}) == 2 * first.p.collect.tasks
    assert [task.id for task in one] != [task.id for task in method.round_tasks(other, own[0])]
    assert all(isinstance(task, Task) and task.split == "train" for task in [*one, *two])


def test_variants_differ_in_what_their_names_say(whole):
    p = whole[0].params
    held = {variant.name: variant for variant in method.variants(p)}
    assert len(held) == len(method.variants(p)) and list(held)[:3] == ["base", "agent_q_r1", "agent_q"]
    settings = {name: method.search_settings(p, v) for name, v in held.items() if v.data == "trees"}
    alone = {name: {f.name for f in dataclasses.fields(s) if getattr(s, f.name) != getattr(settings["agent_q"], f.name)}
             for name, s in settings.items()}  # fmt: skip
    assert alone["agent_q"] == set() and alone["agent_q_alpha0"] == alone["agent_q_alpha1"] == {"alpha"}
    assert alone["agent_q_plain"] == set() and (held["agent_q_plain"].nll, held["agent_q"].nll) == (False, True)


# -- adapters -------------------------------------------------------------------------------------------------


def test_every_round_trains_adapters_and_saves_a_plain_model(new_unit, tmp_path):
    """With a search that finds pairs, in one round of the ladder's two kinds of training."""
    more = {"search.env_steps": 24, "search.simulations": 8, "search.branching": 4, "learn.theta": 0.1, "collect.tasks": 16}
    unit = new_unit(tmp_path / "lab", overrides={"lora_rank": 4} | more)
    lab = Lab(unit, method)
    for name in ("agent_q", "rft"):
        for one in method.variants(lab.p):
            if one.line == name:
                assert method.train(lab, one).found["rows"] > 0, one.name
    adapters_alone_moved(unit, 4)
