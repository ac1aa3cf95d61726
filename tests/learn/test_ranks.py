"""Two processes train, sample and go on from checkpoints as one does: launched by accelerate, summing by gloo."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from common import ranks
from common.learn.monitor import MonitoredTrainer
from common.learn.policy import sft
from common.lm.models import load_model, save_model
from tests.launch import launch
from tests.learn import two_ranks
from tests.learn.test_policy import difference, examples

TRAININGS = [*two_ranks.CASES, "policy gradient", "policy gradient, one turn", "value", "saved"]


@pytest.fixture(scope="module")
def world(_initial, tokenizer, tmp_path_factory) -> Path:
    """A model, and checkpoints of one process, of which the end is taken away: as if it had been killed after update 6."""
    world = tmp_path_factory.mktemp("world")
    save_model(_initial, tokenizer, world)
    two_ranks.train(world, world / "one", examples(19), two_ranks.SAVED)
    shutil.rmtree(world / "one" / "checkpoint-8")
    return world


@pytest.fixture(scope="module")
def two(world, tmp_path_factory) -> tuple[dict, Path]:
    """What two processes found, and where their weights are."""
    out = tmp_path_factory.mktemp("two")
    launch("tests.learn.two_ranks", str(world), str(out))
    return json.loads((out / "found.json").read_text()), out


@pytest.fixture(scope="module")
def one(world, tmp_path_factory) -> tuple[dict, Path]:
    out = tmp_path_factory.mktemp("one")
    alone = tmp_path_factory.mktemp("alone")  # the model only: going on is what two processes do
    shutil.copytree(world, alone, dirs_exist_ok=True, ignore=shutil.ignore_patterns("one"))
    return two_ranks.everything(alone, out), out


def apart(one: Path, other: Path) -> float:
    """The largest difference between two files of weights."""
    weights, others = load_file(one / "weights.safetensors"), load_file(other / "weights.safetensors")
    assert weights.keys() == others.keys()
    return max((weights[name] - others[name]).abs().max().item() for name in weights)


@pytest.mark.parametrize("name", TRAININGS)
def test_two_processes_train_to_the_losses_and_weights_of_one(one, two, name):
    (expected, where), (found, there) = one, two
    assert (expected["ranks"], found["ranks"]) == (1, 2)
    assert len(expected[name]["log"]) == len(found[name]["log"]) >= 1
    for metrics, others in zip(expected[name]["log"], found[name]["log"], strict=True):
        assert others == pytest.approx(metrics, rel=1e-4, abs=1e-5)
    if "stats" in expected[name]:
        assert found[name]["stats"] == pytest.approx(expected[name]["stats"], rel=1e-4)
    assert apart(where / name, there / name) < 1e-5


@pytest.mark.parametrize("name", TRAININGS)
def test_all_ranks_end_with_the_same_bits_and_only_one_logs(two, name):
    assert two[0][name]["same bits"]
    assert two[0][name]["logged"] == [len(two[0][name]["log"]), 0]


def test_training_moves_the_weights_much_further_than_ranks_do(world, one):
    start, _ = load_model(world)
    for name in two_ranks.CASES:
        trained = load_file(one[1] / name / "weights.safetensors")
        moved = max((p.detach() - trained[key]).abs().max().item() for key, p in start.named_parameters())
        assert moved > 1e-3


def test_answers_divided_over_ranks_are_those_of_one_process_and_cost_the_same(one, two):
    expected, found = one[0]["sampled"], two[0]["sampled"]
    assert found["cost"] == expected["cost"] and found["cost"]["lm_calls"] > 0
    assert len(found["turns"]) == 10
    for some, others in zip(found["turns"], expected["turns"], strict=True):
        for turn, other in zip(some, others, strict=True):
            assert turn == other | {"logprob": pytest.approx(other["logprob"], abs=1e-4)}
    for verdicts, others in zip(found["verdicts"], expected["verdicts"], strict=True):
        assert verdicts == pytest.approx(others, abs=1e-5)
    assert len({turn["text"] for some in found["turns"] for turn in some}) > 5


def test_what_one_process_began_two_go_on_with(one, two, world):
    assert two[0]["resumed"]["stats"] == pytest.approx(one[0]["saved"]["stats"], rel=1e-4)
    assert len(two[0]["resumed"]["log"]) == 2
    assert apart(world / "one", one[1] / "saved") < 1e-5


def test_what_two_processes_began_one_goes_on_with(one, two, world, tmp_path):
    shutil.copytree(two[1] / "saved", tmp_path / "killed", ignore=shutil.ignore_patterns("checkpoint-8"))
    found = two_ranks.train(world, tmp_path / "killed", examples(19), two_ranks.SAVED)
    assert [len(found["log"]), found["stats"]["updates"]] == [2, 8]
    assert found["stats"] == pytest.approx(one[0]["saved"]["stats"], rel=1e-4)
    assert apart(tmp_path / "killed", one[1] / "saved") < 1e-5


def test_a_number_that_is_not_finite_on_one_rank_stops_all(one, two):
    assert one[0]["broken"] == ["sft: loss is nan at update 1"]
    assert two[0]["broken"] == ["sft: loss is nan at update 1"] * 2


# -- one process --------------------------------------------------------------------------------------------


def test_one_process_has_everything_and_sums_nothing():
    assert (ranks.world_size(), ranks.rank()) == (1, 0)
    assert ranks.share("abc") == ranks.block("abc") == ["a", "b", "c"]
    assert ranks.total([1, 0.1]) == [1, 0.1] and ranks.all_gather("x") == ["x"]
    tensor = torch.ones(2)
    ranks.all_reduce(tensor)
    assert tensor.tolist() == [1, 1]


@pytest.mark.parametrize(("count", "n"), [(2, 7), (3, 2), (4, 8)])
def test_shares_and_blocks_hold_every_item_once(monkeypatch, count, n):
    monkeypatch.setattr(ranks, "world_size", lambda: count)
    shares, blocks = [], []
    for rank in range(count):
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)
        shares.append(ranks.share(range(n)))
        blocks.append(ranks.block(range(n)))
    assert shares == [list(range(rank, n, count)) for rank in range(count)]
    assert [item for block in blocks for item in block] == list(range(n))
    for parts in (shares, blocks):
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_weights_that_are_sharded_are_refused():
    trainer = SimpleNamespace(stage="dpo", accelerator=SimpleNamespace(distributed_type=SimpleNamespace(value="FSDP")))
    with pytest.raises(ValueError, match="dpo: accelerate's distributed_type is FSDP but this loop needs whole weights"):
        MonitoredTrainer._join_ranks(trainer)


def trained(model, tokenizer, out: Path, items=None, **changes):
    """A trained copy of ``model``, its TrainStats and the updates that were logged."""
    model, seen = copy.deepcopy(model), []
    settings = two_ranks.replace(two_ranks.SAVED, **changes)
    stats = sft(model, tokenizer, items or examples(19), settings, seed=5, out_dir=out, log=lambda n, _: seen.append(n))
    return model, stats, seen


def test_going_on_gives_the_bits_of_never_having_stopped(model, tokenizer, tmp_path):
    straight, stats, _ = trained(model, tokenizer, tmp_path / "none", save_every=None)
    assert list((tmp_path / "none").iterdir()) == []
    first, own, seen = trained(model, tokenizer, tmp_path)
    assert difference(first, straight) == 0.0 and own == stats and seen == [1, 2, 3, 4, 5, 6, 7, 8]
    shutil.rmtree(tmp_path / "checkpoint-8")
    second, own, seen = trained(model, tokenizer, tmp_path)
    assert difference(second, straight) == 0.0 and own == stats and seen == [7, 8]
    again, own, seen = trained(model, tokenizer, tmp_path)  # everything is done
    assert difference(again, straight) == 0.0 and own == stats and seen == []


def test_a_checkpoint_that_was_not_finished_is_passed_over(model, tokenizer, tmp_path):
    straight, stats, _ = trained(model, tokenizer, tmp_path)
    (tmp_path / "checkpoint-8" / "progress.json").unlink()
    again, own, seen = trained(model, tokenizer, tmp_path)
    assert difference(again, straight) == 0.0 and own == stats and seen == [7, 8]


def test_a_checkpoint_of_another_training_is_refused(model, tokenizer, tmp_path):
    trained(model, tokenizer, tmp_path)
    for changes in ({"items": examples(18)}, {"lr": 2e-3}, {"max_steps": 9}):
        with pytest.raises(ValueError, match="sft: '.*checkpoint-8' was made with other data, settings or seed"):
            trained(model, tokenizer, tmp_path, **changes)
    assert trained(model, tokenizer, tmp_path, save_every=5)[2] == []  # how often is no part of it
