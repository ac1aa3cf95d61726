"""RISE's unit: its variants and budgets by hand, its parts by value; and that it learns, only from what is true."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from statistics import fmean

import pytest

from common import lab
from common.config import load_spec, resolve
from common.envs.versions.countdown_answer_v1 import CountdownAnswerEnv
from common.evaluate.claims import load_claims
from common.evaluate.correction import correction
from common.evaluate.dialogues import dialogues
from common.evaluate.votes import stacked
from common.lab import BASE, Lab
from common.rng import generator
from common.types import Task, Turn
from papers.rise import method
from tests.papers import riddles
from tests.papers.sums import ENV
from tests.papers.units import REPOSITORY, adapters_alone_moved, open_unit

CLAIMS = Path(method.__file__).with_name("claims.yaml")


@pytest.fixture(scope="module")
def new_unit(world_of):
    return partial(open_unit, world_of(ENV), "rise", ENV)


@pytest.fixture(scope="module")
def whole(new_unit, tmp_path_factory):
    unit = new_unit(tmp_path_factory.mktemp("whole") / "lab")
    return unit, lab.run(unit)


# -- the unit -------------------------------------------------------------------------------------------------


def test_budgets_are_matched_where_claims_say_so(whole):
    unit, rows = whole
    cost = {row.variant: row.cost for row in rows if row.metric == "success"}
    pairs = ("rise_self", "rise_filtered", "rise_distil", "rft")
    trained = {*pairs, "rise_self_it1", "rise_once"}
    assert cost.keys() == {f"{name}{way}" for name in {"base"} | trained for way in ("", "+turn1", "+vote", "+parallel")}
    p = unit.params.collect
    answers = p.tasks * (1 + p.samples) + p.tasks * (2 + p.samples)
    for name in ("rise_self", "rise_filtered", "rft"):
        assert cost[name]["samples"] == cost[name]["env_steps"] == answers, name
    for name in ("rise_self", "rise_filtered", "rft", "rise_distil", "rise_once"):
        assert cost[name]["updates"] == 2 * unit.params.sft.updates, name
        assert cost[name]["sampled_tokens"] > 0
    assert cost["rise_once"]["samples"] == 2 * p.tasks * (1 + p.samples)
    spec = load_spec(REPOSITORY, "rise")
    for profile in ("cpu", "smol", "gpu"):  # within D1.6b's tolerance at every profile that a claim is judged at
        n = resolve(method.Params, spec, profile, riddles.ENV, {}).collect.samples
        assert 1 - 2 * (1 + n) / (3 + 2 * n) < 0.05, profile
    assert cost["rise_distil"]["samples"] == 3 * p.tasks  # the oracle's answers are nobody's samples
    assert cost["rise_self_it1"]["samples"] == p.tasks * (1 + p.samples)
    assert cost["rise_self+vote"] == cost["rise_self"] and set(cost["base"].values()) == {0}


def test_ways_of_answering_agree_with_the_report(whole):
    found = {(row.variant, row.metric): row.value for row in whole[1]}
    for name in ("base", "rise_self", "rft"):
        assert found[f"{name}+turn1", "success"] == found[name, "acc@1"]
        assert found[name, "success"] == found[name, "acc@5"]
        assert found[f"{name}+vote", "success"] == found[name, "vote"] <= found[name, "any"]
        assert found[f"{name}+parallel", "success"] == found[name, "parallel_vote"] <= found[name, "parallel_any"]
        assert found[name, "delta"] == pytest.approx(found[name, "i2c"] - found[name, "c2i"], abs=1e-12)


def variant(name: str, work: Lab) -> method.Condition:
    return next(one for one in method.variants(work.p) if one.name == name)


def test_two_names_of_one_method_differ_in_nothing(new_unit, tmp_path):
    work = Lab(new_unit(tmp_path / "twin"), method)
    one = variant("rise_self", work)
    both = (one, dataclasses.replace(one, name="null", stages=("null_it1", "null")))
    first, second = (work.run.stage_path(method.train(work, v).stage) / "model.safetensors" for v in both)
    assert first.read_bytes() == second.read_bytes() != (work.unit.base / "model.safetensors").read_bytes()
    assert first.parent.name == "train.rise_self" and second.parent.name == "train.null"


def test_the_second_iteration_goes_on_from_the_one_that_is_reported_as_the_first(whole, new_unit, tmp_path):
    unit, rows = whole
    work = Lab(new_unit(tmp_path / "lab"), method)
    one, both = (method.train(work, variant(name, work)) for name in ("rise_self_it1", "rise_self"))
    stages = sorted(path.name for path in (work.run.path / "stages").glob("train.*.json"))
    assert stages == ["train.rise_self.json", "train.rise_self_it1.json"]  # the first one is trained once
    cost = {row.variant: row.cost for row in rows}
    for trained, name in ((one, "rise_self_it1"), (both, "rise_self")):
        assert trained.cost.samples == cost[name]["samples"] and trained.cost.updates == cost[name]["updates"]


# -- adapters, and prose from a pretrained model ------------------------------------------------------------------


def test_every_iteration_trains_adapters_and_saves_a_plain_model(whole, new_unit, tmp_path):
    unit = new_unit(tmp_path / "lab", lora_rank=4)
    rows = lab.run(unit)
    assert {row.identity[:4] for row in rows} == {row.identity[:4] for row in whole[1]}
    adapters_alone_moved(unit, 9)


@pytest.fixture(scope="module")
def prose(tmp_path_factory) -> Path:
    return riddles.build(tmp_path_factory.mktemp("prose"))


@pytest.fixture
def prose_unit(prose, monkeypatch):
    """A unit of the chat model."""
    riddles.stand_in(monkeypatch)
    return partial(open_unit, prose, "rise", riddles.ENV, model="someone/chat@1", answer_tokens=24, sft__lr=1e-4)


def test_it_runs_in_prose_from_a_model_that_has_a_name(prose_unit, tmp_path):
    unit = prose_unit(tmp_path / "lab", test__tasks=15)
    rows = lab.run(unit)
    assert {row.scale for row in rows} == {"someone/chat@1"} and {row.env for row in rows} == {riddles.ENV}
    present, paper = {(r.variant, r.panel, r.metric) for r in rows}, load_claims(CLAIMS)
    mine = [claim for claim in paper.claims if claim.env == riddles.ENV]
    assert mine and all((v, claim.panel, claim.metric) in present for claim in mine for v in claim.variants)
    assert (paper.checks[0].terms[0].variant, mine[0].panel, paper.checks[0].terms[0].metric) in present  # what tells the floor
    found = {(row.variant, row.metric): row.value for row in rows}
    assert 0 < found["base", "acc@1"] < 1 and 0 < found["base", "vote"]  # names were read in what it wrote
    lines = [json.loads(line) for line in (unit.run.artifacts / "dialogues.base.jsonl").read_text().splitlines()]
    assert {line["turn"] for line in lines} == {1, 2, 3, 4, 5} and any("\n#### " in line["answer"] for line in lines)
    work = Lab(prose_unit(tmp_path / "again"), method)
    for name in ("rise_self", "rft"):  # whole turns, not the answers that they declare
        examples = method.collect(work, variant(name, work), 1, work.engine()).rows
        assert examples and any(e.completion in map(riddles.worked_answer, riddles.NAMES) for e in examples)


def test_a_model_that_declares_nothing_ends_at_the_floor(prose_unit, tmp_path):
    unit = prose_unit(tmp_path / "short", answer_tokens=2)
    rows = lab.run(unit)
    values = {row.variant: row for row in rows if row.metric == "success"}
    assert values["base"].value == values["rft"].value == values["base+parallel"].value == 0.0
    assert values["rft"].cost["updates"] == values["rise_filtered"].cost["updates"] == 0  # nothing right, nothing learned
    assert values["rise_self"].cost["updates"] == 0 < values["rise_distil"].cost["updates"]  # no turn ended but the oracle's


# -- its parts, by hand -----------------------------------------------------------------------------------------


def turn(text: str, *, finished: bool = True) -> Turn:
    return Turn(text, -1.0, 2, finished)


def test_the_best_is_the_first_right_one_that_was_finished():
    some = [turn("a"), turn("B", finished=False), turn("C"), turn("D")]
    assert method.best(some, [0, 1, 1, 1]) == 2
    assert method.best(some, [0, 1, 0, 0]) == 0
    assert method.best([turn("a", finished=False)] * 2, [1, 1]) == 0


class Scripted:
    """First tries are wrong, then ``options`` are proposed; remembers what it was asked."""

    def __init__(self, options: list[str]) -> None:
        self.options, self.asked = options, []

    def propose(self, prompts, keys, n):
        self.asked += [(tuple(m["content"] for m in prompt[1:]), n) for prompt in prompts]
        return [[turn(t) for t in (self.options if n > 1 else [f"4 + {len(self.asked)}"])] for _ in prompts]

    def critique(self, prompts, actions):
        raise NotImplementedError


def test_the_last_turn_improves_on_the_last_attempt_only():
    env = CountdownAnswerEnv().dialogue(3, window=method.WINDOW)
    task = Task("t", ENV, "train", {"numbers": [2, 3, 4], "target": 24})
    policy = Scripted(["4 + 3 + 2", "(4 * 3) * 2", "24"])
    [found] = method.improve(env, [task], policy, keys=[7], samples=3, oracle=False)
    retry = env.RETRY
    assert policy.asked == [((), 1), (("4 + 1", retry), 1), (("4 + 2", retry), 3)]
    assert [(one.text, r) for _, one, r in found.attempts] == [("4 + 1", 0.0), ("4 + 2", 0.0)]
    assert (found.target.text, found.reward) == ("(4 * 3) * 2", 1.0)
    assert [m["content"] for m in found.state] == ["numbers 4 3 2 target 24 expression", "4 + 2", retry]
    [improved] = method.improve(env, [task], Scripted([]), keys=[7], samples=3, oracle=True)
    env.reset(task)
    assert improved.reward == 1.0 and improved.target.text == env.oracle() and improved.state == found.state


def test_weights_and_filters_by_hand():
    def state(k: int):
        return ({"role": "user", "content": str(k)},)

    found = [method.Improved(((state(1), turn("x"), 0.0), (state(2), turn("Y"), 1.0)), state(3), turn("Z"), 1.0),
             method.Improved(((state(4), turn("W", finished=False), 1.0),), state(5), turn("v"), 0.0)]  # fmt: skip
    weighted = method.examples_of(found, tau=0.4, filtered=False)
    assert [(e.completion, round(e.weight, 3)) for e in weighted] == [("x", 0.082), ("Y", 1.0), ("Z", 1.0),
                                                                     ("v", 0.082)]  # fmt: skip
    assert [(e.prompt, e.completion, e.weight) for e in method.examples_of(found, tau=0.4, filtered=True)] == [
        (state(2), "Y", 1.0), (state(3), "Z", 1.0)]  # fmt: skip


def test_rejection_keeps_distinct_right_first_answers():
    task = Task("t", ENV, "train", {"numbers": [2, 3, 4], "target": 24})
    policy = Scripted(["(4 * 3) * 2", "4 + 3", "(4 * 3) * 2", "4 * 3 * 2"])
    found = method.first_examples(CountdownAnswerEnv(), [task], policy, keys=[1], samples=4)
    assert [(len(e.prompt), e.completion, e.weight) for e in found] == [(1, "(4 * 3) * 2", 1.0), (1, "4 * 3 * 2", 1.0)]


def test_iterations_take_new_tasks_and_one_turn_more(new_unit, tmp_path, monkeypatch):
    work, seen = Lab(new_unit(tmp_path / "lab"), method), []
    plain = method.improve

    def spy(env, tasks, policy, **how):
        seen.append((env.max_steps, env.window, tuple(task.id for task in tasks)))
        return plain(env, tasks, policy, **how)

    monkeypatch.setattr(method, "improve", spy)
    method.train(work, variant("rise_self", work))
    assert [s[:2] for s in seen] == [(2, 1), (3, 1)]
    assert len(set(seen[0][2]) | set(seen[1][2])) == 2 * work.p.collect.tasks


# -- does it learn? -----------------------------------------------------------------------------------------------

LEARN = {"collect__tasks": 25, "collect__samples": 8, "sft__updates": 20, "sft__batch": 32, "sft__lr": 3e-3}


@pytest.fixture(scope="module")
def outcomes(new_unit, tmp_path_factory) -> dict[str, dict[str, float]]:
    """Sampled report over five turns on held-out numbers of one seed."""
    found, plain, rng = {}, method.improve, generator("shuffled")

    def shuffled(env, tasks, policy, **how):
        """Rewards and improvements say nothing: the last turn is any of the samples, weights are dealt out anew."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(method, "best", lambda turns, rewards: int(rng.integers(len(turns))))
            played = plain(env, tasks, policy, **how)
        dealt = [played[i] for i in rng.permutation(len(played))]
        return [
            dataclasses.replace(one, reward=other.reward, attempts=tuple(
                (state, answer, r) for (state, answer, _), (_, _, r) in zip(one.attempts, other.attempts)))
            for one, other in zip(played, dealt)
        ]  # fmt: skip

    for name in ("base", "rise_self", "rise_distil", "shuffled"):
        work = Lab(new_unit(tmp_path_factory.mktemp("learn") / "lab", **LEARN), method)
        with pytest.MonkeyPatch.context() as patch:
            if name == "shuffled":
                patch.setattr(method, "improve", shuffled)
            trained = method.train(work, variant("rise_self" if name == "shuffled" else name, work))
        env = work.env.dialogue(5, window=1)
        assert (trained == BASE) == (name == "base")
        draws, _ = dialogues(env, work.panels["test"], work.policy(work.engine(trained)), seed=0, draws=4)
        found[name] = correction(stacked(draws))
    print({name: {k: round(v, 3) for k, v in one.items()} for name, one in found.items()})
    return found


def test_rise_raises_later_turns(outcomes):
    assert 0.1 < outcomes["base"]["acc@1"] < 0.6
    for name in ("rise_self", "rise_distil"):
        assert outcomes[name]["acc@5"] > outcomes["base"]["acc@5"] + 0.1, name


def test_shuffled_rewards_teach_nothing(outcomes):
    gains = {name: outcomes[name]["acc@5"] - outcomes["base"]["acc@5"] for name in ("rise_self", "shuffled")}
    assert gains["shuffled"] < gains["rise_self"] / 2


def test_a_lazy_policy_and_an_oracle_have_their_known_scores():
    env = CountdownAnswerEnv().dialogue(5, window=1)
    tasks = [Task(f"t{k}", ENV, "test", {"numbers": [k + 2, 1], "target": k + 3}) for k in range(5)]
    for write, expected in ((lambda: env.oracle(), 1.0), (lambda: "1", 0.0)):
        ends = []
        for task in tasks:
            env.reset(task)
            ends.append([env.step(write()) for _ in range(5)][-1].reward)
        assert fmean(ends) == expected
