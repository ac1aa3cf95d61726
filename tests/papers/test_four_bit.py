"""Papers whose adapters may be trained beside 4-bit weights: the unit runs, phases go on, and the parameters are checked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from common import lab
from common.config import ConfigError
from common.envs.versions.countdown_answer_v1 import CountdownAnswerEnv
from common.base import demonstrations
from common.lm.models import load_model
from tests.papers.sums import ENV
from tests.papers.units import adapters_alone_moved, content, interrupt, open_unit, operators, sums, teach, write_panels

STAGES = {"score": 7, "rise": 9, "confidence_critique": 4}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """As tests.papers.sums has it, with a policy whose layers read whole blocks."""
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: pip install -e '.[four-bit]'")
    write_panels(root := tmp_path_factory.mktemp("sums"), ENV, sums(ENV, "four bit"))
    examples = demonstrations(CountdownAnswerEnv(), operators(ENV), seed=0, repeats=2)
    teach(root, examples, vocab=340, context=96, updates=150, width=64)
    return root


@pytest.mark.parametrize("paper", STAGES)
def test_every_stage_trains_adapters_beside_4_bit_weights_and_saves_a_plain_model(world, tmp_path, paper):
    unit = open_unit(world, paper, ENV, tmp_path / "lab", lora_rank=4, four_bit=True)
    rows = lab.run(unit)
    assert unit.run.finished and rows
    adapters_alone_moved(unit, STAGES[paper])
    base, _ = load_model(unit.base, four_bit=True)
    for folder in (unit.run.path / "stages").glob("train.*/"):
        assert not json.loads((folder / "config.json").read_text()).get("quantization_config"), folder.name
    kinds = {weight.dtype for weight in base.parameters()}
    assert kinds == {torch.uint8, torch.float32}


def test_stage_two_goes_on_from_stage_one_s_adapters(world, tmp_path, monkeypatch):
    seen = {}
    plain = lab.policy_gradient

    def recording(model, *args, **kwargs):
        seen[len(seen)] = {name: weight.detach().clone() for name, weight in model.named_parameters() if "lora_" in name}
        return plain(model, *args, **kwargs)

    monkeypatch.setattr(lab, "policy_gradient", recording)
    unit = open_unit(world, "score", ENV, tmp_path / "lab", lora_rank=4, four_bit=True)
    lab.run(unit)
    saved = load_file(unit.run.path / "stages" / "train.stage1" / "adapters.safetensors")
    ends = [number for number, start in seen.items() if all(torch.equal(start[name], one) for name, one in saved.items())]
    assert len(ends) == 2 and len(seen) == 5  # no_bonus and score; the others start at zero
    assert any(float(one.abs().max()) > 0 for name, one in saved.items() if "lora_B" in name)


def test_a_unit_that_fell_over_ends_the_same(world, tmp_path, monkeypatch):
    whole = open_unit(world, "rise", ENV, tmp_path / "whole", lora_rank=4, four_bit=True)
    lab.run(whole)
    for name, after in (("save_model", 1), ("sft", 1)):
        interrupt(lab, open_unit(world, "rise", ENV, tmp_path / "lab", lora_rank=4, four_bit=True), name, after, monkeypatch)
    again = open_unit(world, "rise", ENV, tmp_path / "lab", lora_rank=4, four_bit=True)
    lab.run(again)
    assert content(again) == content(whole)


@pytest.mark.parametrize("paper", STAGES)
def test_4_bits_without_adapters_are_refused_before_anything_runs(tmp_path, paper):
    with pytest.raises(ConfigError, match=f"{paper}: four_bit: true needs adapters, .* but lora_rank is 0; set lora_rank") as caught:
        open_unit(tmp_path, paper, ENV, tmp_path / "lab", four_bit=True)
    assert "\n" not in str(caught.value)
