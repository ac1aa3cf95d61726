"""Agent Q's unit: every claimed variant, the same rows again and after any interruption, matched budgets."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import yaml

from common.config import ConfigError
from common.envs.shop.instruction import BEFORE
from common.envs.steps import INSTRUCTION
from common.envs.versions.countdown_v1 import CountdownEnv, build_panels
from common.evaluate.claims import load_claims
from common.lm.engine import Engine
from common.search.tree import Tree
from common.types import Observation, Step, Task, Trajectory, Turn
from papers.agent_q import method
from tests.papers import riddles
from tests.papers.units import open_unit

CLAIMS = Path(method.__file__).with_name("claims.yaml")


def claims() -> list[dict]:
    written = yaml.safe_load(CLAIMS.read_text())
    return [written["defaults"] | claim for claim in written["claims"]]


def content(unit) -> bytes:
    return (unit.run.path / "rows.jsonl").read_bytes()


@pytest.fixture(scope="module")
def whole(new_unit, tmp_path_factory):
    """One complete unit at the smoke profile."""
    unit = new_unit(tmp_path_factory.mktemp("whole") / "lab")
    return unit, method.run(unit)


SHORT = ("agent_q", "rft")
"""The first variants of the ladder: enough for repetition and resume, in a fifth of the time."""


@pytest.fixture
def short(monkeypatch):
    every = method.variants
    monkeypatch.setattr(method, "variants", lambda p: [v for v in every(p) if v.name in SHORT])
    monkeypatch.setattr(method, "PLANNED", ("base", "agent_q"))


@pytest.fixture(scope="module")
def reference(whole):
    """Lines of the whole unit's rows by variant."""
    lines = (whole[0].run.path / "rows.jsonl").read_text().splitlines()
    return {line: json.loads(line)["variant"] for line in lines}


def matches(unit, reference) -> None:
    """The unit's rows are, byte for byte, the whole unit's rows of the same variants."""
    mine = content(unit).decode().splitlines()
    wanted = [line for line, name in reference.items()
              if name.split("+")[0].split("@")[0].removesuffix("_r1") in ("base", *SHORT) and name != "rft+mcts"
              and name != "rft+bon"]  # fmt: skip
    assert mine == wanted and len(mine) > 40


# -- the unit -------------------------------------------------------------------------------------------------


def test_every_claimed_variant_has_its_rows(whole):
    unit, rows = whole
    held = {(row.variant, row.panel, row.metric) for row in rows}
    names = {row.variant for row in rows}
    for claim in claims():
        for side in ("better", "worse"):
            for variant in claim[side].split(" - "):
                assert variant in names, (claim["id"], variant)
                if claim["metric"] != "pair_accuracy":  # undefined where a smoke run finds no pair
                    assert (variant, f"countdown-v1/{claim['panels'][0].split('/')[1]}", claim["metric"]) in held
    assert unit.run.finished and unit.run.rows() == sorted(rows, key=lambda row: row.identity)


def test_claims_name_the_same_budgets_in_both_variants(whole):
    """What is matched on an axis differs by less than the claim's tolerance and one episode."""
    _, rows = whole
    costs = {row.variant: row.cost for row in rows if row.metric == "success"}
    for claim in claims():
        axis, sides = claim["matched_on"], (claim["better"], claim["worse"])
        if axis in ("env_steps", "sampled_tokens") and all(side in costs for side in sides):
            better, worse = (costs[side][axis] for side in sides)
            # two rounds, each overshooting by an episode of at most six steps and 24 tokens a step; smoke
            # budgets are so small that an episode is more than the tolerance
            allowed = claim["tolerance"] * better + 2 * CountdownEnv().max_steps * (1 if axis == "env_steps" else 24)
            assert abs(better - worse) <= allowed, (claim["id"], better, worse)


def test_a_baseline_spends_the_budget_and_less_than_one_episode_more(whole):
    unit, _ = whole

    def cost(name: str, r: int) -> dict:
        return json.loads((unit.run.path / "stages" / f"train.{name}.r{r}.json").read_text())["cost"]

    for r in (1, 2):
        for name in ("rft", "traj_dpo"):
            over = cost(name, r)["env_steps"] - cost("agent_q", r)["env_steps"]
            assert 0 <= over < CountdownEnv().max_steps
        for name in ("rft_tok", "traj_dpo_tok"):
            over = cost(name, r)["sampled_tokens"] - cost("agent_q", r)["sampled_tokens"]
            assert 0 <= over < 24 * CountdownEnv().max_steps
        assert all(cost(name, r)["sampled_tokens"] > 0 for name in ("rft", "traj_dpo", "agent_q"))


def test_a_finished_unit_is_read_and_not_run(whole, monkeypatch, new_unit):
    unit, rows = whole
    monkeypatch.setattr(method, "Experiment", None)
    again = new_unit(unit.root)
    assert method.run(again) == sorted(rows, key=lambda row: row.identity)


def test_artifacts_are_there_to_look_at(whole):
    folder = whole[0].run.artifacts
    for name in ("tree.r1.0.json", "tree.r1.0.html", "pairs.r1.jsonl", "rollouts.base.jsonl", "rollouts.agent_q.jsonl"):
        assert (folder / name).is_file(), name
    assert all(json.loads(line) for line in (folder / "rollouts.base.jsonl").read_text().splitlines())


def test_a_second_run_from_nothing_gives_the_same_rows(whole, reference, new_unit, short, tmp_path):
    """With two variants of twelve: a variant depends on no other but Agent Q, which sets the budgets."""
    unit = new_unit(tmp_path / "lab")
    method.run(unit)
    matches(unit, reference)
    other = {path.name: path.read_bytes() for path in (unit.run.path / "stages").glob("*.json")}
    whole_stages = whole[0].run.path / "stages"
    assert all((whole_stages / name).read_bytes() == blob for name, blob in other.items())
    for folder in (unit.run.path / "stages").glob("train.*/"):
        first, second = folder / "model.safetensors", whole_stages / folder.name / "model.safetensors"
        assert first.read_bytes() == second.read_bytes(), folder.name


def test_a_unit_that_fails_again_and_again_ends_with_the_same_rows(reference, new_unit, short, tmp_path, monkeypatch):
    """Falls over in search, in training after the trees, in saving, in evaluation and in planning."""
    calls = {"left": 0}

    def failing(name: str, after: int) -> None:
        plain = getattr(method, name)
        calls["left"] = after

        def one(*args, **kwargs):
            calls["left"] -= 1
            if calls["left"] < 0:
                raise KeyboardInterrupt(name)
            return plain(*args, **kwargs)

        monkeypatch.setattr(method, name, one)

    unit = new_unit(tmp_path / "lab")
    for name, after in (("search", 0), ("train", 0), ("save_model", 1), ("evaluate", 0), ("plan_and_act", 1)):
        with monkeypatch.context() as patch:
            patch.setattr(method, name, getattr(method, name))  # so that leaving the context restores it
            failing(name, after)
            with pytest.raises(KeyboardInterrupt, match=name):
                method.run(unit)
        assert not unit.run.finished and not (unit.run.path / "rows.jsonl").exists()
        unit.run.close()
        unit = new_unit(tmp_path / "lab")
        assert not list((unit.run.path / "stages").glob(".*.tmp"))
    method.run(unit)
    matches(unit, reference)


def test_a_unit_resumes_from_its_last_stage(reference, new_unit, short, tmp_path):
    unit = new_unit(tmp_path / "lab")
    method.run(unit)
    stages = sorted((unit.run.path / "stages").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    for path in (unit.run.path / "DONE", unit.run.path / "rows.jsonl", *stages[-6:]):
        path.unlink()
    kept = {path: path.stat().st_mtime_ns for path in stages[:-6]}
    unit = new_unit(tmp_path / "lab")
    method.run(unit)
    matches(unit, reference)
    assert all(path.stat().st_mtime_ns == moment for path, moment in kept.items())


# -- in words, from a pretrained model ---------------------------------------------------------------------------


def test_it_runs_in_words_from_a_model_that_has_a_name(told_shop, tmp_path, monkeypatch):
    asked, judge = set(), Engine.judge

    def listening(engine, prompts, actions, *, question):
        asked.add((question, *{prompt[0]["role"] for prompt in prompts}))
        return judge(engine, prompts, actions, question=question)

    monkeypatch.setattr(Engine, "judge", listening)
    unit = open_unit(told_shop, "agent_q", "shop-v1", tmp_path / "lab", model="someone/chat@1", critic="A good action?",
                     search__env_steps=24, search__branching=3, search__simulations=8, learn__theta=0.1)  # fmt: skip
    rows = method.run(unit)
    assert {row.scale for row in rows} == {"someone/chat@1"} and asked == {("A good action?", "system")}
    found = {(row.variant, row.panel, row.metric): row.value for row in rows}
    written = load_claims(CLAIMS)
    mine = [claim for claim in written.claims if claim.env == "shop-v1" and claim.metric != "pair_accuracy"]
    assert mine and all((v, claim.panel, claim.metric) in found for claim in mine for v in claim.variants)
    assert (written.room.variant, "shop-v1/test", written.room.metric) in found  # what tells the floor
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
                     action_tokens=20, search__env_steps=24, search__branching=3, search__simulations=8,
                     learn__theta=0.1, test__tasks=30)  # fmt: skip
    rows = method.run(unit)
    assert {row.scale for row in rows} == {"someone/chat@1"} and {row.env for row in rows} == {env}
    assert asked == {"A right line?"} and kept == {(20, INSTRUCTION)}  # and nothing of the shop before it
    found = {(row.variant, row.panel, row.metric): row.value for row in rows}
    written = load_claims(CLAIMS)
    mine = [claim for claim in written.claims if claim.env == env]
    assert len({claim.id for claim in mine}) == 10
    assert all((variant, claim.panel, claim.metric) in found for claim in mine for variant in claim.variants)
    assert 0.05 < found[written.room.variant, f"{env}/test", written.room.metric] < 0.95
    assert all(0 <= found[name, f"{env}/test", "invalid"] < 1 for name in ("base", "rft", "traj_dpo", "agent_q"))
    pairs = [json.loads(line) for line in (unit.run.artifacts / "pairs.r1.jsonl").read_text().splitlines()]
    assert pairs and found["agent_q", f"{env}/train", "pair_leaked"] == 0
    for part in ("#### ", " likes "):  # pairs of answers and of lines before them
        assert any(part in pair["chosen"] for pair in pairs), part
    assert found["agent_q@theta=0.0", f"{env}/train", "pair_accuracy"] > 0.5


def test_a_model_that_has_a_name_is_refused_where_nothing_explains_the_actions(new_unit, tmp_path):
    with pytest.raises(ConfigError, match="countdown-v1 has no instruction"):
        method.run(new_unit(tmp_path / "lab", overrides={"model": "someone/chat@1"}))


def test_nano_policies_are_told_nothing(whole):
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
    groups = method.by_task(EPISODES)
    shown = {task: ["".join(s.turn.text for s in e.steps) for e in group] for task, group in groups.items()}
    assert shown == {"a": ["pq", "xyz", "k", "xy"], "b": ["x"], "c": ["m"]}


def test_episode_pairs_set_best_against_worst(whole):
    def params(**learn) -> method.Params:
        given = whole[0].params
        return dataclasses.replace(given, learn=dataclasses.replace(given.learn, **learn))

    pairs = method.episode_pairs(EPISODES, params(theta=0.2, pairs_per_task=4))
    shown = [("".join(t.action for t in p.chosen), "".join(t.action for t in p.rejected)) for p in pairs]
    assert shown == [("pq", "xy"), ("xyz", "k")]  # b and c have one episode each
    first = pairs[0]
    assert [t.ref_logp for t in first.chosen] == [-1.0, -2.0]
    assert first.chosen[1].prompt == ({"role": "user", "content": "a:p"},)
    assert len(method.episode_pairs(EPISODES, params(theta=0.2, pairs_per_task=1))) == 1
    # differences of 1 and 0.75: the threshold is exceeded strictly
    assert len(method.episode_pairs(EPISODES, params(theta=0.75))) == 1
    assert method.episode_pairs(EPISODES, params(theta=1.0)) == []


def test_successes_are_every_step_of_episodes_with_reward_one():
    found = [(e.prompt[-1]["content"], e.completion) for e in method.successes(EPISODES)]
    assert found == [("a:", "p"), ("a:p", "q"), ("a:", "x"), ("a:x", "y"), ("a:xy", "z"), ("c:", "m")]


def test_found_reward_looks_at_every_simulation():
    tree = Tree("t", "e", 0, {"gamma": 0.9, "alpha": 0.5})
    assert not method.found_reward(tree)
    child = tree.add_child(0, action="x")
    tree.nodes[child].returns.append(0.0)
    assert not method.found_reward(tree)
    tree.nodes[child].returns.append(0.9**5)
    assert method.found_reward(tree)


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


@pytest.mark.parametrize(
    ("axis", "budget", "episodes"),
    [("env_steps", 1, 1), ("env_steps", 2, 1), ("env_steps", 3, 2), ("env_steps", 10, 5), ("env_steps", 11, 6),
     ("sampled_tokens", 6, 1), ("sampled_tokens", 7, 2), ("sampled_tokens", 30, 5), ("env_steps", 0, 0)],
)  # fmt: skip
def test_episodes_stop_where_the_budget_is_reached(axis, budget, episodes):
    """Three tasks a wave, two steps of three tokens an episode."""
    tasks = build_panels(0)["train"][:3]
    whole = method.waves(CountdownEnv(), tasks, Steady(), seed=0, budgets={axis: budget})
    assert len(whole) % 3 == 0  # whole waves, of which the budget takes the first episodes
    kept = method.within(whole, axis, budget)
    longer = method.waves(CountdownEnv(), tasks, Steady(), seed=0, budgets={axis: budget, "env_steps": 30})
    assert method.within(longer, axis, budget) == kept
    assert [e.task_id for e in kept] == [tasks[i % 3].id for i in range(episodes)]
    spent = sum(len(e.steps) if axis == "env_steps" else e.n_tokens for e in kept)
    assert budget <= spent < budget + (2 if axis == "env_steps" else 6)


def test_rounds_take_new_tasks_in_an_order_of_the_seed(new_unit, tmp_path):
    first, other = (method.Experiment(new_unit(tmp_path / f"lab{s}", seed=s)) for s in (0, 1))
    one, two = first.round_tasks(1), first.round_tasks(2)
    assert len({task.id for task in [*one, *two]}) == 2 * first.p.collect.tasks
    assert [task.id for task in one] != [task.id for task in other.round_tasks(1)]
    assert all(isinstance(task, Task) and task.split == "train" for task in [*one, *two])


def test_variants_differ_in_what_their_names_say(whole):
    held = {variant.name: variant for variant in method.variants(whole[0].params)}
    assert len(held) == len(method.variants(whole[0].params)) and next(iter(held)) == "agent_q"
    settings = {name: method.search_settings(whole[0].params, v) for name, v in held.items() if v.kind == "agent_q"}
    alone = {name: {f.name for f in dataclasses.fields(s) if getattr(s, f.name) != getattr(settings["agent_q"], f.name)}
             for name, s in settings.items()}  # fmt: skip
    assert alone["agent_q"] == set() and alone["agent_q_alpha0"] == alone["agent_q_alpha1"] == {"alpha"}
    assert {"max_env_steps"} <= alone["agent_q_big"] <= {"max_env_steps", "simulations"}
    assert "use_critique" in alone["agent_q_no_critique"]
    assert (held["rft"].budget, held["rft_tok"].budget) == ("env_steps", "sampled_tokens")
