"""Confidence and critique: equal data and budgets, both modes, its parts by value; and what each tuning teaches."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path

import pytest

from common import lab
from common.envs.versions.countdown_answer_v1 import CountdownAnswerEnv
from common.evaluate.claims import load_claims
from common.evaluate.correction import correction
from common.evaluate.dialogues import dialogues
from common.evaluate.votes import stacked
from common.lab import Lab
from common.learn.batches import SFTExample
from common.types import Task, Turn
from papers.confidence_critique import method
from papers.confidence_critique.maths import exact_levels
from tests.papers import riddles
from tests.papers.sums import ENV
from tests.papers.units import adapters_alone_moved, open_unit

CLAIMS = Path(method.__file__).with_name("claims.yaml")
TUNED = ("sft", "confidence", "critique", "mixture")


@pytest.fixture(scope="module")
def new_unit(world_of):
    return partial(open_unit, world_of(ENV), "confidence_critique", ENV)


@pytest.fixture(scope="module")
def whole(new_unit, tmp_path_factory):
    unit = new_unit(tmp_path_factory.mktemp("whole") / "lab")
    return unit, lab.run(unit)


# -- the unit -------------------------------------------------------------------------------------------------


def test_examples_and_updates_are_equal(whole, new_unit, tmp_path):
    unit, rows = whole
    cost = {row.variant: row.cost for row in rows if row.metric == "acc@2"}
    for name in TUNED:
        assert cost[name]["updates"] == unit.params.sft.updates
    answers = unit.params.collect.tasks * unit.params.collect.samples
    assert {name: cost[name]["samples"] for name in cost} == {"base": 0, "sft": 0} | dict.fromkeys(
        ("confidence", "critique", "mixture"), answers)  # fmt: skip
    chosen, cost = method.examples(Lab(new_unit(tmp_path / "lab"), method))
    assert cost.samples == answers
    assert len({len(one) for one in chosen.values()}) == 1 and len(chosen["mixture"]) > 0


def test_reports_keep_their_identities_in_both_modes(whole):
    found = {(row.variant, row.metric): row.value for row in whole[1]}
    for name in ("base", *TUNED):
        for mode in ("", "prob_"):
            acc, last, cl, cs = (found[name, f"{mode}{m}"] for m in ("acc@1", "acc@2", "cl", "cs"))
            assert last == pytest.approx(acc * cl + (1 - acc) * cs, abs=1e-9)
            assert found[name, f"{mode}delta"] == pytest.approx(last - acc, abs=1e-9)
            assert found[name, f"{mode}rss"] == pytest.approx((last - acc**2) / (2 * acc * (1 - acc)), abs=1e-9)
        assert found[name, "success"] == found[name, "acc@2"] and 0 <= found[name, "prob_missing"] <= 1


# -- adapters, and prose from a pretrained model ------------------------------------------------------------------


def test_every_variant_trains_adapters_and_saves_a_plain_model(new_unit, tmp_path):
    unit = new_unit(tmp_path / "lab", lora_rank=4)
    lab.run(unit)
    adapters_alone_moved(unit, len(TUNED))


@pytest.fixture(scope="module")
def prose(tmp_path_factory) -> Path:
    return riddles.build(tmp_path_factory.mktemp("prose"))


@pytest.fixture
def prose_unit(prose, monkeypatch):
    """A unit of the chat model, without the probability mode as at the profile smol."""
    riddles.stand_in(monkeypatch)
    return partial(open_unit, prose, "confidence_critique", riddles.ENV, model="someone/chat@1", answer_tokens=24,
                   sft__lr=1e-4, test__exact_tasks=0)  # fmt: skip


def test_it_runs_in_prose_from_a_model_that_has_a_name(prose_unit, tmp_path):
    unit = prose_unit(tmp_path / "lab", test__tasks=15)
    rows = lab.run(unit)
    assert {row.scale for row in rows} == {"someone/chat@1"} and {row.env for row in rows} == {riddles.ENV}
    present, paper = {(r.variant, r.panel, r.metric) for r in rows}, load_claims(CLAIMS)
    mine = [claim for claim in paper.claims if claim.env == riddles.ENV]
    assert mine and all((v, claim.panel, claim.metric) in present for claim in mine for v in claim.variants)
    assert (paper.checks[0].terms[0].variant, mine[0].panel, paper.checks[0].terms[0].metric) in present  # what tells the floor
    assert not [row.metric for row in rows if row.metric.startswith("prob_")]
    found = {(row.variant, row.metric): row.value for row in rows}
    assert 0 < found["base", "acc@1"] < 1  # names were read in what it wrote
    lines = [json.loads(line) for line in (unit.run.artifacts / "dialogues.base.jsonl").read_text().splitlines()]
    assert {line["turn"] for line in lines} == {1, 2} and any("\n#### " in line["answer"] for line in lines)
    chosen, _ = method.examples(Lab(prose_unit(tmp_path / "again"), method))
    kept = chosen["confidence"]  # a whole turn again, and only a right one
    assert kept and any(e.completion in map(riddles.worked_answer, riddles.NAMES) for e in kept)
    assert all(e.completion == e.prompt[-2]["content"] for e in kept)
    assert all(e.completion in {f"#### {name}" for name in riddles.NAMES} for e in chosen["critique"] + chosen["sft"])


def test_a_model_that_declares_nothing_ends_at_the_floor(prose_unit, tmp_path):
    rows = lab.run(prose_unit(tmp_path / "short", answer_tokens=2))
    assert {row.value for row in rows if row.metric == "success"} == {0.0}
    assert {row.cost["updates"] for row in rows if row.metric == "success"} == {0}  # no variant gets more than another


# -- its parts, by hand -----------------------------------------------------------------------------------------


def test_what_a_first_answer_is_followed_by():
    env, task = CountdownAnswerEnv(), Task("t", ENV, "train", {"numbers": [2, 3, 4], "target": 24})
    answers = ["4 * (3 * 2)", "4 + 3", "4 + 3", "4 * (3 * 2)", "9"]
    turns = [Turn(text, -1.0, 2) for text in answers] + [Turn("4 -", -1.0, 2, finished=False)]
    found = method.pools(env, [task], [turns])
    env.reset(task)
    right = env.oracle()
    assert right != "4 * (3 * 2)"  # one and the same expression is repeated, another right one would be no repetition

    def read(examples: list[SFTExample]) -> list[tuple]:
        return [([m["content"] for m in e.prompt[1:]], e.completion) for e in examples]

    assert read(found["sft"]) == [([], right)]
    assert read(found["confidence"]) == [(["4 * (3 * 2)", env.RETRY], "4 * (3 * 2)")]
    assert read(found["critique"]) == [(["4 + 3", env.RETRY], right), (["9", env.RETRY], right)]


def test_all_variants_get_equally_many_and_the_mixture_half_of_each():
    def pool(name: str, size: int) -> list[SFTExample]:
        return [SFTExample((), f"{name}{i}") for i in range(size)]

    found = {"sft": pool("s", 30), "confidence": pool("k", 9), "critique": pool("r", 50)}
    chosen = method.drawn(found, most=20, seed=0)
    assert {name: len(one) for name, one in chosen.items()} == dict.fromkeys((*found, "mixture"), 8)
    assert chosen["mixture"] == chosen["confidence"][:4] + chosen["critique"][:4]
    assert all(len({e.completion for e in one}) == 8 for one in chosen.values())
    assert method.drawn(found, most=4, seed=0)["critique"] == chosen["critique"][:4]
    assert method.drawn(found, most=20, seed=1) != chosen
    assert set(map(len, method.drawn(found | {"confidence": []}, most=20, seed=0).values())) == {0}


def weights(work: Lab, variant: method.Tuned) -> bytes:
    return (work.run.stage_path(method.train(work, variant).stage) / "model.safetensors").read_bytes()


def test_the_variant_s_name_is_no_part_of_its_training(new_unit, tmp_path):
    """Null variant: the same examples under two names give the same weights."""
    work = Lab(new_unit(tmp_path / "lab"), method)
    one, two = (weights(work, method.Tuned(name, "critique")) for name in ("critique", "null"))
    assert one == two != (work.unit.base / "model.safetensors").read_bytes()


# -- does it learn? -----------------------------------------------------------------------------------------------

LEARN = {"collect__tasks": 50, "collect__samples": 8, "sft__examples": 80, "sft__updates": 30, "sft__batch": 32,
         "sft__lr": 3e-3}  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(new_unit, tmp_path_factory) -> dict[str, dict[str, float]]:
    """Levels on held-out numbers of one seed, sampled and exact; ``shuffled``: critique's targets dealt out anew."""
    work, found = Lab(new_unit(tmp_path_factory.mktemp("learn") / "lab", **LEARN), method), {}
    chosen, cost = method.examples(work)
    dealt = [*chosen["critique"][7:], *chosen["critique"][:7]]
    shuffled = [dataclasses.replace(e, completion=o.completion) for e, o in zip(chosen["critique"], dealt)]
    work.once("examples", lambda: (chosen | {"shuffled": shuffled}, cost))
    for name in ("base", "confidence", "critique", "mixture", "shuffled"):
        engine = work.engine(method.train(work, method.Tuned(name, name if name != "base" else "")))
        draws, _ = dialogues(work.env, work.panels["test"], work.policy(engine), seed=0, draws=6)
        exact, missing = exact_levels(work.env, work.panels["test"], engine)
        found[name] = correction(stacked(draws)) | exact.report("prob_") | {"missing": missing}
    print({name: {k: round(v, 3) for k, v in one.items()} for name, one in found.items()})
    return found


def test_critique_repairs_and_confidence_keeps(outcomes):
    base = outcomes["base"]
    assert outcomes["critique"]["cs"] > base["cs"] + 0.1
    assert outcomes["confidence"]["cl"] > base["cl"] + 0.02
    assert outcomes["confidence"]["cl"] > outcomes["shuffled"]["cl"]
    assert outcomes["mixture"]["acc@2"] > base["acc@2"] + 0.05


def test_targets_of_other_tasks_repair_nothing(outcomes):
    gains = {name: outcomes[name]["cs"] - outcomes["base"]["cs"] for name in ("critique", "shuffled")}
    assert gains["shuffled"] < gains["critique"] / 2


def test_both_modes_agree_but_for_what_is_not_listed(outcomes):
    for name, one in outcomes.items():
        assert one["prob_acc@1"] == pytest.approx(one["acc@1"], abs=one["missing"] + 0.08), name
        assert one["prob_acc@2"] == pytest.approx(one["acc@2"], abs=one["missing"] + 0.08), name
