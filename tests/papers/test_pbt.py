"""PBT: pairs by hand, partners who always object, equal numbers and budgets, both halves by hand, and that pairs of one kind go too far."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from common.base import demonstrations
from common.envs.versions.countdown_worked_roles_v1 import KEEP, CountdownWorkedRolesEnv
from common.lab import Lab, run
from common.types import PreferencePair, Task, Turn
from papers.pbt import figures, method, talks
from papers.pbt.method import ACCEPT, RESIST, siblings
from papers.pbt.talks import AGREES, OBJECTS, Last, Talk
from tests.papers.units import open_unit, operators, sums, teach, write_panels

ENV = "countdown-worked-roles-v1"


@pytest.fixture(scope="module")
def new_unit(tmp_path_factory):
    """A world of two numbers whose target is their sum, and a half-taught policy of all three roles."""
    world: Path = tmp_path_factory.mktemp("tiny")
    write_panels(world, ENV, sums(ENV, "tiny pbt", train=40))
    teach(world, demonstrations(CountdownWorkedRolesEnv(), operators(ENV), seed=0, repeats=2), vocab=340, context=128, updates=300)
    return partial(open_unit, world, "pbt", ENV)


@pytest.fixture(scope="module")
def whole(new_unit, tmp_path_factory):
    unit = new_unit(tmp_path_factory.mktemp("whole") / "lab", collect__tasks=30, collect__branching=6)
    return unit, run(unit)


def talk(right: bool) -> Talk:
    return Talk(Task("t", ENV, "train", {}), "first", right, "said", ())


def last(text: str, *, right: bool, kept: bool = False, finished: bool = True) -> Last:
    return Last(Turn(text, -1.0, 3, finished), right, kept)


def test_pairs_by_hand():
    stay, other, worse = last(KEEP, right=True, kept=True), last("also right", right=True), last("wrong", right=False)
    pair = siblings(talk(True), [other, worse, stay])
    assert (pair.chosen, pair.rejected) == (KEEP, "wrong")  # resist: another right answer is neither
    stay = last(KEEP, right=False, kept=True)
    pair = siblings(talk(False), [worse, stay, other])
    assert (pair.chosen, pair.rejected) == ("also right", KEEP)  # accept: another wrong answer is neither
    cut = last("also ri", right=True, finished=False)
    for alike in ([stay, stay], [stay, worse], [worse, other], [stay, cut]):
        assert siblings(talk(False), alike) is None


def answers_of(task: Task) -> tuple[str, str, str]:
    """A right answer to a task of this world, a wrong one, and one that miscalculates."""
    a, b = sorted(task.data["numbers"], reverse=True)
    return f"{a} + {b} = {a + b}", f"{a} - {b} = {a - b}", f"{a} + {b} = {a + b + 1}"


def test_a_partner_who_objects_is_right_exactly_where_the_answer_is_wrong(new_unit, tmp_path):
    lab = Lab(new_unit(tmp_path / "lab"), method)
    [task, *_] = lab.tasks
    a, b = sorted(task.data["numbers"], reverse=True)
    objected, agreed = (how(lab, [(task, text) for text in answers_of(task)]) for how in (talks.objections, talks.agreements))
    assert [one.right for one in objected] == [one.right for one in agreed] == [True, False, False]
    assert {lab.env.verdict(one.said) for one in objected} == {False} and {one.said for one in agreed} == {f"makes {a + b} right"}
    assert objected[0].said in {f"makes {a - b} wrong", "invalid wrong"}  # what the others' true objections say, as far from the target
    assert [one.said for one in objected[1:]] == [f"makes {a - b} wrong", "invalid wrong"]
    assert objected[0].answer in objected[0].prompt[0]["content"] and objected[0].said in objected[0].prompt[0]["content"]


def test_the_words_of_an_objection_tell_nothing(new_unit, tmp_path):
    """Over many answers, right and wrong ones are objected to as invalid equally often, and equally far from the target."""
    lab = Lab(new_unit(tmp_path / "lab"), method)
    given = [(task, text) for task in lab.tasks for text in answers_of(task)]
    far: dict[bool, list] = {True: [], False: []}
    for talk in talks.objections(lab, given):
        said = talk.said.split()[1]
        far[talk.right].append(None if said == "wrong" else int(said) - talk.task.data["target"])
    invalid = {right: found.count(None) / len(found) for right, found in far.items()}
    assert invalid[False] == 0.5 and abs(invalid[True] - 0.5) < 0.2
    legal = {right: [miss for miss in found if miss is not None] for right, found in far.items()}
    assert set(legal[True]) <= set(legal[False]) and abs(sum(legal[True]) / len(legal[True]) - sum(legal[False]) / len(legal[False])) < 3


def test_last_answers_are_judged_as_the_environment_holds_them(new_unit, tmp_path, monkeypatch):
    lab = Lab(new_unit(tmp_path / "lab"), method)
    [task, *_] = lab.tasks
    right, wrong, _ = answers_of(task)
    met = talks.objections(lab, [(task, right), (task, wrong)])
    said = [Turn(text, -1.0, 3) for text in (KEEP, right, wrong)]
    monkeypatch.setattr(type(lab.policy(lab.engine())), "propose", lambda *_: [said, said])
    found = talks.last_answers(lab, lab.engine(), met, 3, "test")
    assert [[(one.right, one.kept) for one in of_talk] for of_talk in found] == [
        [(True, True), (True, False), (False, False)], [(False, True), (True, False), (False, False)]]  # fmt: skip


def test_all_variants_learn_from_as_many_pairs_half_of_each_kind(new_unit, tmp_path):
    lab = Lab(new_unit(tmp_path / "lab", collect__pairs=6), method)
    found = {kind: [PreferencePair((), f"{kind} {i}", "", task_id="t") for i in range(n)] for kind, n in ((RESIST, 20), (ACCEPT, 9))}
    taken = {variant.name: method.chosen(lab, found, variant.kinds) for variant in method.variants(lab.p) if variant.kinds}
    assert {len(set(pair.chosen for pair in pairs)) for pairs in taken.values()} == {6}
    assert [pair.chosen.split()[0] for pair in taken["pbt"]] == [RESIST] * 3 + [ACCEPT] * 3 and taken["pbt"] == taken["sft"]
    assert taken["pbt"][:3] == taken["resist"][:3] and taken["pbt"][3:] == taken["accept"][:3]
    lab = Lab(new_unit(tmp_path / "more", collect__pairs=40), method)
    assert len(method.chosen(lab, found, (RESIST, ACCEPT))) == len(method.chosen(lab, found, (RESIST,))) == 8  # nine there are of one


def test_both_halves_by_hand():
    """Two right answers, one held; three wrong ones, two given up, one of them for a right answer; agreed with, one is kept."""
    met = {name: [talk(right) for right in (True, True, False, False, False)] for name in (OBJECTS, AGREES)}
    objected = [last("", right=True, kept=True), last("", right=True), last("", right=False, kept=True), last("", right=True), last("", right=False)]
    agreed = [last("", right=True, kept=True)] * 2 + [last("", right=False, kept=True), last("", right=False), last("", right=False)]
    found = method.persuaded(met, {OBJECTS: objected, AGREES: agreed})
    assert found == pytest.approx({"holds": 1 / 2, "yields": 2 / 3, "balanced": 7 / 12, "repairs": 1 / 3, "contested": 3 / 5, "stays": 1.0,
                                   "flattered": 1 / 3})  # fmt: skip
    for kept in (True, False):  # who does not look gets a half, whatever becomes right by answering anew
        blind = [last("", right=i % 2 == 0, kept=kept) for i in range(5)]
        assert method.persuaded(met, {OBJECTS: blind, AGREES: blind})["balanced"] == 0.5


def test_a_unit_measures_both_ways_of_decoding_at_equal_cost(whole):
    unit, rows = whole
    found = {(row.variant, row.metric): row for row in rows if row.panel == f"{ENV}/test"}
    names = {variant.name for variant in method.variants(unit.params)}
    for metric in ("holds", "yields", "balanced", "repairs", "contested", "stays", "flattered", "success"):
        assert {variant for variant, found_metric in found if found_metric == f"greedy_{metric}"} == names
    trained = [found[name, "balanced"].cost for name in names - {"base"}]
    assert {one["updates"] for one in trained} == {unit.params.dpo.updates} and len({one["samples"] for one in trained}) == 1
    assert {"acc@1", "verifier_balanced"} <= {metric for name, metric in found if name == "base"}


def test_pairs_of_one_kind_make_stubborn_or_gullible(new_unit, tmp_path):
    unit = new_unit(tmp_path / "lab", collect__tasks=40, collect__branching=6, collect__pairs=200, dpo__updates=40, dpo__batch=16,
                    dpo__lr=3e-3, test__tasks=30, test__draws=6, only=("base", "resist", "accept"))  # fmt: skip
    found = {(row.variant, row.metric): row.value for row in run(unit) if row.panel.endswith("/test")}
    assert found["resist", "holds"] > found["base", "holds"] and found["resist", "yields"] < found["base", "yields"]
    assert found["accept", "yields"] > found["base", "yields"] and found["accept", "holds"] < found["resist", "holds"]


def test_the_toy_by_hand():
    text = figures.toy()[-1]
    assert '"keep" before "5 - 3 = 2"' in text and '"5 - 3 = 2" before "keep"' in text
