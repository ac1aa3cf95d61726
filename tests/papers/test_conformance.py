"""What every paper must satisfy, whatever it does: one test over all papers, in small worlds and at the sizes of ``smoke``.

A new paper on an environment that has a world (tests/papers/worlds.py) is tested here without an edit of any test.
"""

from __future__ import annotations

import importlib
import math
import re
from dataclasses import dataclass, replace

import pytest
import torch

from common import lab
from common.config import known_papers
from common.evaluate.claims import Claim, load_claims
from common.evaluate.verdicts import judge
from common.lm.engine import Engine
from common.rows import MetricRow
from common.sweep.unit import Unit
from common.track.store import Run
from tests.papers.interruptions import interrupt_event, interrupt_stage, record_unit
from tests.papers.loading import remember_models
from tests.papers.rewards import coins_on_training_tasks, nothing_succeeds
from tests.papers.units import REPOSITORY, content, open_unit
from tests.papers.worlds import env_of

PAPERS = known_papers(REPOSITORY)
SUCCESS = ("success", "planned_success", "score", "delta", "return", "return_auc", "vote", "acc@2", "excess")
"""Metrics that say how well a variant does its task; what claims of other metrics state may hold for any reward."""


@dataclass(frozen=True)
class Whole:
    """A unit that ran without interruption, its rows, and what was computed in which order."""

    unit: Unit
    rows: list[MetricRow]
    stages: list[str]
    trainings: list[str]


@pytest.fixture(scope="module", autouse=True)
def _fast_loading():
    with pytest.MonkeyPatch.context() as patch:
        remember_models(patch)
        yield


@pytest.fixture(scope="module", params=PAPERS)
def paper(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def new_unit(paper, world_of):
    """``new_unit(root, seed=0)``: an open unit of the paper in the world of its environment."""
    env = env_of(paper)
    return lambda root, seed=0: open_unit(world_of(env), paper, env, root, seed=seed)


@pytest.fixture(scope="module")
def whole(new_unit, tmp_path_factory) -> Whole:
    unit = new_unit(tmp_path_factory.mktemp("whole") / "lab")
    with pytest.MonkeyPatch.context() as patch:
        seen = record_unit(patch)
        rows = lab.run(unit)
    return Whole(unit, rows, seen.stages, seen.trainings(2))


def claims_of(paper: str, env: str) -> list[Claim]:
    return [claim for claim in load_claims(REPOSITORY / "papers" / paper / "claims.yaml").claims if claim.env == env]


def saved(unit: Unit) -> dict[str, bytes]:
    """Every saved model of a unit."""
    folder = unit.run.path / "stages"
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.safetensors")}


# -- rows ------------------------------------------------------------------------------------------------------------


def test_what_claims_compare_was_measured(paper, whole):
    """Every variant; and every metric, unless a toy leaves it undefined for all variants (a rate of pairs that do not exist)."""
    found = {(row.variant, row.panel, row.metric) for row in whole.rows}
    variants = {row.variant for row in whole.rows}
    claims = claims_of(paper, whole.unit.env)
    assert claims
    for claim in claims:
        for variant in claim.variants:
            assert variant in variants, f"{claim.id}: {variant}"
            defined = any(metric == claim.metric for _, _, metric in found)
            assert (variant, claim.panel, claim.metric) in found or not defined or claim.metric in ("pair_accuracy", "cl", "cs", "told_apart"), claim
    trained = {variant.name for variant in importlib.import_module(f"papers.{paper}.method").variants(whole.unit.params)}
    assert trained <= variants
    assert whole.unit.run.finished and whole.unit.run.rows() == sorted(whole.rows, key=lambda row: row.identity)
    assert all(math.isfinite(row.value) for row in whole.rows)


def test_budgets_match_where_claims_say_so(paper, whole):
    """By the rule that judges published results, coarser for toys: one episode or one rounded task is a larger share of them."""
    claims = load_claims(REPOSITORY / "papers" / paper / "claims.yaml")
    coarse = {"env_steps": 0.5, "sampled_tokens": 0.6, "samples": 0.15}
    own = tuple(replace(claim, tolerance=max(claim.tolerance, coarse.get(claim.matched_on, 0.0)), checks=()) for claim in claims.claims)
    records = judge(replace(claims, claims=own), whole.rows).claims
    assert records and not [(r["id"], r["reason"]) for r in records if r["reason"].startswith(("budgets differ", "no budget"))]


# -- the same bytes --------------------------------------------------------------------------------------------------


def test_a_second_run_gives_the_same_bytes_and_another_seed_does_not(whole, new_unit, tmp_path):
    again = new_unit(tmp_path / "again")
    lab.run(again)
    assert content(again) == content(whole.unit)
    assert saved(again) == saved(whole.unit) != {}
    other = new_unit(tmp_path / "other", seed=1)
    lab.run(other)
    # rows name their seed, so their bytes differ whatever was computed: it is the values that must
    values = [{(row.variant, row.panel, row.metric): row.value for row in unit.run.rows()} for unit in (whole.unit, other)]
    assert values[0].keys() & values[1].keys() and values[0] != values[1]


def test_interrupted_at_every_stage_it_ends_with_the_same_bytes(whole, new_unit, tmp_path):
    """Before a stage is computed, before it is saved, and inside some trainings; each resume goes on to the next interruption."""
    planned = [(name, how) for name in whole.stages for how in (["event"] if name in whole.trainings else []) + [False, True]]
    assert len(whole.stages) == len(set(whole.stages)) > 1
    for name, how in planned:
        unit = new_unit(tmp_path / "lab")
        with pytest.MonkeyPatch.context() as patch:
            interrupt_event(patch, name, 1) if how == "event" else interrupt_stage(patch, name, computed=how)
            # it fired: nothing here passes by not being interrupted
            with pytest.raises(KeyboardInterrupt, match=f"^{re.escape(name)}$"):
                lab.run(unit)
        assert not unit.run.finished and not unit.run.has_stage(name)
        unit.run.close()
    unit = new_unit(tmp_path / "lab")
    lab.run(unit)
    assert content(unit) == content(whole.unit) and saved(unit) == saved(whole.unit)


def test_a_finished_unit_is_only_read(whole, new_unit, monkeypatch):
    def never(*_, **__):
        raise AssertionError("a finished unit was computed again")

    for owner, name in ((Run, "stage"), (Engine, "sample"), (Engine, "score"), (torch.nn.Module, "__init__")):
        monkeypatch.setattr(owner, name, never)
    assert lab.run(new_unit(whole.unit.root)) == sorted(whole.rows, key=lambda row: row.identity)


# -- policies that fail, rewards that lie ------------------------------------------------------------------------------


def test_it_survives_a_policy_that_ends_no_answer(new_unit, tmp_path, monkeypatch):
    """Every turn is cut after one token. Of a paper without a language model this is the same run as ever."""
    plain = Engine.sample

    def cut(engine, *asked, **how):
        return [[replace(turn, finished=False) for turn in turns] for turns in plain(engine, *asked, **(how | {"max_new_tokens": 1}))]

    monkeypatch.setattr(Engine, "sample", cut)
    rows = lab.run(new_unit(tmp_path / "lab"))
    assert rows and all(math.isfinite(row.value) for row in rows)


def test_it_survives_tasks_on_which_nothing_succeeds(paper, new_unit, tmp_path, monkeypatch):
    nothing_succeeds(monkeypatch, env_of(paper))
    unit = new_unit(tmp_path / "lab")
    rows = lab.run(unit)
    names = {variant.name for variant in importlib.import_module(f"papers.{paper}.method").variants(unit.params)}
    found = {row.variant: row.value for row in rows if row.metric in ("success", "return")}
    assert rows and all(math.isfinite(row.value) for row in rows)
    assert sum(found[name] == 0.0 for name in names & found.keys()) > 1  # the reward was read; ideal players have none


def test_rewards_by_coin_decide_nothing(paper, new_unit, tmp_path, monkeypatch):
    """Rewards of training tasks are drawn by a coin, evaluation is by the truth. Three seeds, judged as published results are.

    It finds rewards that leak from training into evaluation. At these sizes hardly anything is learned from true rewards either:
    that a method learns, and nothing from shuffled ones, is what each paper's own test of learning shows.
    """
    env = env_of(paper)
    coins_on_training_tasks(monkeypatch, env)
    rows = [row for seed in (10, 11, 12) for row in lab.run(new_unit(tmp_path / str(seed), seed))]
    claims = load_claims(REPOSITORY / "papers" / paper / "claims.yaml")
    own = replace(claims, claims=tuple(replace(claim, looks=(3,), checks=()) for claim in claims.claims
                                       if claim.env == env and claim.metric in SUCCESS))
    if own.claims:
        supported = [record["id"] for record in judge(own, rows).claims if record["verdict"] == "supported"]
        assert not supported, supported
