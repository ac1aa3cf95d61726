"""MALT's unit: budgets worked out, roles and their weights; labels by hand; that it learns, and only from truth.

The world is two-number Countdown whose target is always the sum, for a base that was shown targets of all operators:
"write a plus" is what refiners and generators can learn, "the sum is right" what a verifier can.
"""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from statistics import fmean

import pytest
import torch
from safetensors.torch import load_file

from common.envs import user_rows
from common.envs.roles import ROLES
from common.envs.versions import gsm8k_v1
from common.envs.versions.countdown_roles_v1 import CountdownRolesEnv
from common.envs.versions.countdown_worked_roles_v1 import KEEP
from common.envs.word_problem_roles import RIGHT, WRONG, WordProblemRolesEnv
from common.evaluate.claims import load_claims
from common.lab import Lab, run
from common.learn.batches import SFTExample
from common.base import demonstrations
from common.lm.engine import Engine
from common.lm.models import load_model
from common.rng import generator
from common.types import PreferencePair, Task
from papers.malt import method, tree
from tests.papers.units import adapters_alone_moved, open_unit, operators, sums, teach, write_panels

ENV, WORKED = "countdown-roles-v1", "countdown-worked-roles-v1"


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """With a half-taught policy of all three roles."""
    world = tmp_path_factory.mktemp("tiny")
    write_panels(world, ENV, sums(ENV, "tiny malt", train=40))
    examples = demonstrations(CountdownRolesEnv(), operators(ENV), seed=0, repeats=1)
    teach(world, examples, vocab=340, context=128, updates=400)
    return world


@pytest.fixture(scope="module")
def new_unit(world):
    return partial(open_unit, world, "malt", ENV)


@pytest.fixture(scope="module")
def whole(new_unit, tmp_path_factory):
    unit = new_unit(tmp_path_factory.mktemp("whole") / "lab")
    return unit, run(unit)


@pytest.fixture(scope="module")
def trios(whole) -> list[str]:
    return [variant.name for variant in method.variants(whole[0].params) if not variant.peer]


def condition(p: method.Params, name: str) -> method.Condition:
    return next(variant for variant in method.variants(p) if variant.name == name)


def weights(unit, stage: str) -> bytes:
    return (unit.run.stage_path(stage) / "model.safetensors").read_bytes()


# -- the unit -------------------------------------------------------------------------------------------------


def test_every_variant_has_its_ways_of_acting(whole, trios):
    singles = {f"{name}{how}" for name in ("base", "rft") for how in ("", "+vote", "+vote_tok")}
    assert {row.variant for row in whole[1]} == singles | {f"{name}{how}" for name in trios for how in ("", "+vote")}
    audited = {row.variant for row in whole[1] if row.panel == f"{ENV}/train"}
    assert audited == {"star_trio", "malt", "malt_outcome"}
    assert {row.n for row in whole[1] if row.panel == f"{ENV}/train"} == {whole[0].params.collect.tasks}


def test_budgets_are_those_worked_out_by_hand(whole):
    unit, rows = whole
    costs = {row.variant: row.cost for row in rows if row.metric == "success"}
    p, n = unit.params, unit.params.test.tasks
    tree = p.collect.tasks * sum(p.collect.branching**d for d in (1, 2, 3))
    assert costs["trio+vote"]["samples"] == 3 * p.test.votes * n == costs["trio+vote"]["env_steps"]
    assert costs["malt+vote"]["samples"] == tree + costs["trio+vote"]["samples"]
    assert costs["base+vote"]["samples"] == p.test.votes * n and costs["base"]["samples"] == n
    long, malt = costs["malt_sft_long+vote"]["updates"], costs["malt+vote"]["updates"]
    assert long == malt == costs["rft+vote"]["updates"] == 3 * p.sft.updates + 2 * p.dpo.updates
    assert costs["malt_sft"]["updates"] == costs["star_trio"]["updates"] == 3 * p.sft.updates
    assert costs["trio+vote"]["updates"] == 0 and costs["malt"]["scored_tokens"] > 0


def test_the_single_agent_s_votes_are_the_trio_s_first_turns(whole, trios):
    found = {(row.variant, row.metric): row.value for row in whole[1]}
    assert found["base", "success"] == found["trio", "acc@1"]
    for name in trios:
        assert found[name, "success"] == pytest.approx(found[name, "acc@2"])
        assert found[name, "delta"] == pytest.approx(found[name, "i2c"] - found[name, "c2i"], abs=1e-12)
    assert found["base+vote_tok", "votes"] > whole[0].params.test.votes
    # the generator of malt is that of malt_sft, and the base's where the ablation says so
    assert found["malt", "acc@1"] == found["malt_sft", "acc@1"] == found["malt_base_v", "acc@1"]
    assert found["malt_base_g", "acc@1"] == found["trio", "acc@1"]
    assert found["malt_base_g", "verifier_chance"] == found["trio", "verifier_chance"]


def test_star_is_malt_s_sft_with_threshold_zero_bit_by_bit(new_unit, tmp_path):
    """The null variant: one rule under two names differs in nothing."""
    lab = Lab(new_unit(tmp_path / "null", threshold=0.0), method)
    for name in ("star_trio", "malt_sft"):
        method.train(lab, condition(lab.p, name))
    for role in ROLES:
        one, two = (weights(lab.unit, f"train.{credit}.{role}.sft") for credit in ("any", "value"))
        assert one == two != (lab.unit.base / "model.safetensors").read_bytes(), role


def test_each_role_has_its_own_weights_and_dpo_leaves_the_generator_alone(whole):
    made = {role: weights(whole[0], f"train.value.{role}.sft") for role in ROLES}
    assert len(set(made.values())) == 3
    stages = {path.name for path in (whole[0].run.path / "stages").glob("train.*/")}
    assert {name for name in stages if name.endswith(".dpo")} == {
        f"train.{credit}.{role}.dpo" for credit in ("value", "outcome") for role in ROLES[1:]}  # fmt: skip


def test_trees_and_dialogues_are_kept_to_be_read(whole):
    folder, p = whole[0].run.artifacts, whole[0].params
    trees = [json.loads(line) for line in (folder / "trees.jsonl").read_text().splitlines()]
    assert len({row["task"] for row in trees}) == p.collect.tasks and {row["depth"] for row in trees} == {0, 1, 2}
    for name in ("trio", "malt", "malt_sft"):
        lines = [json.loads(line) for line in (folder / f"dialogues.{name}.jsonl").read_text().splitlines()]
        assert len(lines) == 3 * p.test.tasks and {line["role"] for line in lines} == set(ROLES)


# -- worked answers ---------------------------------------------------------------------------------------------


def test_worked_answers_are_measured_as_admission_checks_and_verdicts_ask(world_of, tmp_path):
    unit = open_unit(world_of(WORKED), "malt", WORKED, tmp_path / "lab", only=["trio", "malt", "base", "rft"], admission=True,
                     dpo__nll=1.0, test__elections=3, test__tasks=20, collect__branching=3)  # fmt: skip
    rows = run(unit)
    found = {(row.variant, row.panel.removeprefix(f"{WORKED}/"), row.metric): row.value for row in rows}
    costs = {(row.variant, row.panel.removeprefix(f"{WORKED}/")): row.cost for row in rows if row.metric == "success"}
    p = unit.params.test
    # nine or so chains are measured, and a vote costs what one election's chains cost
    assert costs["trio+vote", "test"]["samples"] == 3 * p.votes * p.tasks and costs["trio", "test"]["samples"] == 3 * p.tasks
    assert costs["base+vote_tok", "test"]["sampled_tokens"] == pytest.approx(costs["trio+vote", "test"]["sampled_tokens"], rel=0.2)
    assert {(variant, panel) for variant, panel, _ in found if panel == "demos"} == {("base", "demos"), ("base+vote", "demos")}
    single, several = found["base", "test", "success"], found["base", "test", f"pass@{p.votes * p.elections}"]
    assert 0 < single < several <= 1 and 0 < found["base", "demos", "success"]
    balanced = (found["trio", "test", "verifier_acc_right"] + found["trio", "test", "verifier_acc_wrong"]) / 2
    assert found["trio", "test", "verifier_balanced"] == pytest.approx(balanced)
    for variant in ("trio+vote", "malt+vote", "base+vote", "rft+vote_tok"):  # all chains of a greedy team are the same
        assert found[variant, "test", "greedy_success"] == found[variant.split("+")[0], "test", "greedy_success"]
    assert {"greedy_verifier_acc", "greedy_acc@1"} <= {metric for variant, _, metric in found if variant == "malt"}
    dialogues = [json.loads(line) for line in (unit.run.artifacts / "dialogues.trio.jsonl").read_text().splitlines()]
    kept = [i for i, line in enumerate(dialogues) if line["text"] == KEEP]
    assert kept and all(dialogues[i]["right"] == dialogues[i - 2]["right"] and dialogues[i]["role"] == "refiner" for i in kept)


# -- in prose, from a pretrained model --------------------------------------------------------------------------


def shown(row: dict, first: int) -> list[SFTExample]:
    """What the three roles say about one problem when the generator answers ``first``."""
    env, right = WordProblemRolesEnv(id="gsm8k-v1"), int(row["answer"].rpartition(" ")[2])
    env.reset(Task("t", "gsm8k-v1", "train", {"question": row["question"], "answer": str(right)}))
    found = []
    for text in (f"He has {first}.\n#### {first}", RIGHT if first == right else WRONG, row["answer"]):
        found.append(SFTExample(env.prompt(), text))
        env.step(text)
    return found


@pytest.fixture(scope="module")
def prose(tmp_path_factory) -> Path:
    """Counting as word problems in GSM8K's format, and a chat model that was shown the three roles at them, errors
    of the generator included."""
    world, order = tmp_path_factory.mktemp("prose"), generator("prose roles").permutation(300).tolist()
    rows = [{"question": f"Tom {k} has {1 + k % 3} eggs. How many?", "answer": f"He has {1 + k % 3}.\n#### {1 + k % 3}"}
            for k in order]  # fmt: skip
    (world / "gsm8k").mkdir()
    for split, own in {"train": rows[:270], "test": rows[270:]}.items():
        (world / "gsm8k" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own))
    teach(world, [e for k, row in enumerate(rows) for e in shown(row, 1 + (k // 2) % 3)], vocab=400, context=256,
          updates=120, batch=24)  # fmt: skip
    return world


@pytest.fixture
def counted(prose, monkeypatch):
    """A unit of the chat model; its training panel is cut to the problems that are left of validation."""
    monkeypatch.setattr(gsm8k_v1, "VALIDATION", 20)
    monkeypatch.setenv("GSM8K_DATA", str(prose / "gsm8k"))
    user_rows.forget()
    yield partial(open_unit, prose, "malt", "gsm8k-v1", model="someone/chat@1", answer_tokens=20, critique_tokens=12)
    user_rows.forget()


def test_it_runs_in_prose_from_a_model_that_has_a_name(counted, tmp_path):
    unit = counted(tmp_path / "lab", collect__tasks=8, collect__branching=3, sft__lr=1e-4)
    rows = run(unit)
    assert {row.scale for row in rows} == {"someone/chat@1"} and {row.env for row in rows} == {"gsm8k-v1"}
    present = {(r.variant, r.panel, r.metric) for r in rows}
    paper = load_claims(Path(method.__file__).with_name("claims.yaml"))
    mine = [claim for claim in paper.claims if claim.env == "gsm8k-v1"]
    assert mine and all((v, claim.panel, claim.metric) in present for claim in mine for v in claim.variants)
    assert (paper.checks[0].terms[0].variant, mine[0].panel, paper.checks[0].terms[0].metric) in present  # what tells the floor
    found = {(row.variant, row.metric): row.value for row in rows}
    assert 0 < found["trio", "acc@1"] == found["base", "success"] < 1  # numbers were read in what it wrote
    assert found["trio", "verifier_acc"] > 0 and ("trio", "verifier_value") not in found
    lab = Lab(unit, method)
    grown = method.labelled(lab, "value")
    branches = [branch for one, _ in grown for branch in one.branches]
    texts = {depth: {b.turn.text for b in branches if b.depth == depth} for depth in range(3)}
    assert any("#### " in text for text in texts[0]) and {RIGHT, WRONG} & texts[1]
    imitated = {e.completion for e in tree.positives(grown, 2)}
    assert imitated and all("#### " in text and text in texts[2] for text in imitated)  # whole solutions
    longest = {role: max(b.turn.n_tokens for b in branches if b.depth == d) for d, role in enumerate(ROLES)}
    assert longest["verifier"] <= 12 < max(longest.values()) <= 20
    dialogues = [json.loads(line) for line in (unit.run.artifacts / "dialogues.trio.jsonl").read_text().splitlines()]
    assert {line["role"] for line in dialogues} == set(ROLES) and any("\n#### " in line["text"] for line in dialogues)


def test_a_model_that_declares_nothing_ends_at_the_floor(counted, tmp_path):
    rows = run(counted(tmp_path / "short", answer_tokens=2, critique_tokens=2))
    assert {row.value for row in rows if row.metric == "success"} == {0.0}
    assert {row.cost["updates"] for row in rows if row.metric == "success"} == {0}  # nothing positive, nothing learned


# -- its parts, by hand -----------------------------------------------------------------------------------------


def test_references_are_the_scores_of_the_policy_that_dpo_starts_from(world):
    engine = Engine(*load_model(world / "base"))
    prompt = ({"role": "user", "content": "generate numbers 8 3 target 11"},)
    pair = PreferencePair(prompt, "8 + 3", "8 - 3", 0.0, 0.0, 1.0, 0.0, "t")
    [found] = tree.referenced([pair], engine)
    [[a, b]] = engine.score([prompt], [["8 + 3", "8 - 3"]])
    assert (found.ref_chosen, found.ref_rejected) == (a, b) and a < 0 and b < 0
    assert tree.referenced([], engine) == []


# -- does it learn? -----------------------------------------------------------------------------------------------

LEARN = {"collect__tasks": 30, "collect__branching": 3, "sft__updates": 30, "sft__batch": 32, "sft__lr": 3e-3,
         "dpo__updates": 20, "dpo__batch": 32, "dpo__lr": 3e-4, "test__tasks": 38, "test__votes": 3}  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(new_unit, tmp_path_factory) -> dict[str, dict[str, float]]:
    """Reports on held-out numbers of one seed; ``shuffled`` learns from leaves whose rewards were dealt anew."""
    found, plain = {}, tree.expand

    def dealt(*args, **how):
        trees = plain(*args, **how)
        leaves = [(one, i) for one in trees for i, b in enumerate(one.branches) if b.reward is not None]
        rewards = [one.branches[i].reward for one, i in leaves]
        for (one, i), k in zip(leaves, generator("dealt").permutation(len(leaves)).tolist(), strict=True):
            one.branches[i] = dataclasses.replace(one.branches[i], reward=rewards[k])
        return trees

    for name in ("trio", "malt_sft", "malt", "shuffled"):
        lab = Lab(new_unit(tmp_path_factory.mktemp("learn") / "lab", **LEARN), method)
        variant = condition(lab.p, "malt" if name == "shuffled" else name)
        with pytest.MonkeyPatch.context() as patch:
            if name == "shuffled":
                patch.setattr(tree, "expand", dealt)
            measured = method.evaluate(lab, variant, method.train(lab, variant))
        found[name] = measured[0].metrics
        if name == "malt":
            found["credit"] = measured[-1].metrics
    print({name: {k: round(v, 3) for k, v in one.items()} for name, one in found.items()})
    return found


def test_the_trained_trio_answers_better(outcomes):
    assert 0.1 < outcomes["trio"]["success"] < 0.7
    assert outcomes["malt"]["success"] > outcomes["trio"]["success"] + 0.1
    assert outcomes["malt_sft"]["success"] > outcomes["trio"]["success"] + 0.05


def test_shuffled_rewards_teach_little(outcomes):
    gains = {name: outcomes[name]["success"] - outcomes["trio"]["success"] for name in ("malt", "shuffled")}
    assert gains["shuffled"] < gains["malt"] / 2


def test_credit_knows_more_than_chance_about_verdicts_it_was_never_told(outcomes):
    assert outcomes["credit"]["pairs_refiner"] > 20
    assert fmean((outcomes["credit"]["label_generator"], outcomes["credit"]["label_verifier"])) > 0.5


def test_pairs_of_a_real_tree_are_siblings(new_unit, tmp_path):
    for one, good in method.labelled(Lab(new_unit(tmp_path / "lab"), method), "value"):
        for pair in tree.sibling_pairs(one, good, depth=2):
            a, b = map(int, pair.path.split("/"))
            assert one.branches[a].parent == one.branches[b].parent and pair.q_chosen == 1.0 > pair.q_rejected == 0.0


# -- low-rank adapters ----------------------------------------------------------------------------------------------


def test_adapters_are_all_that_is_trained_and_each_role_s_dpo_goes_on_from_its_own_sft(new_unit, tmp_path):
    unit = new_unit(tmp_path / "lora", lora_rank=4, sft__lr=1e-2, dpo__lr=1e-3, collect__tasks=12, collect__branching=3)
    lab = Lab(unit, method)
    trained = method.train(lab, condition(lab.p, "malt"))
    adapters_alone_moved(unit, stages=5)
    assert trained.roles["refiner"].stage == "train.value.refiner.dpo"
    assert weights(unit, "train.value.refiner.dpo") != weights(unit, "train.value.refiner.sft")


def test_beside_4_bit_weights_dpo_goes_on_from_the_adapters_of_sft(tmp_path):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: pip install -e '.[four-bit]'")
    world = tmp_path / "tiny"
    write_panels(world, ENV, sums(ENV, "malt four bit", train=40))
    examples = demonstrations(CountdownRolesEnv(), operators(ENV), seed=0, repeats=1)
    teach(world, examples, vocab=340, context=128, updates=150, width=64)  # layers that read whole blocks
    how = {"lora_rank": 4, "four_bit": True, "sft__lr": 1e-2, "dpo__lr": 1e-7, "collect__tasks": 30,
           "collect__branching": 3}  # fmt: skip
    unit = open_unit(world, "malt", ENV, tmp_path / "lab", **how)
    method.train(Lab(unit, method), condition(unit.params, "malt"))
    adapters_alone_moved(unit, stages=5)
    stages = (unit.run.stage_path(f"train.value.refiner.{kind}") for kind in ("sft", "dpo"))
    sft, dpo = (load_file(stage / "adapters.safetensors") for stage in stages)
    assert any(float(one.abs().max()) > 1e-3 for name, one in sft.items() if "lora_B" in name)
    assert all(torch.allclose(dpo[name], one, atol=1e-5) for name, one in sft.items())
    assert any(not torch.equal(dpo[name], one) for name, one in sft.items())
