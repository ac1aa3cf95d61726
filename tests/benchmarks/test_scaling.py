"""docs/scaling.md: shapes are those of real models, formulas are worked out by hand, tables and program are up to date."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks import scaling
from common.learn.batches import SFTExample
from tests.launch import ROOT, launch
from tests.papers.units import teach


def config(shape: scaling.Shape) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=shape.width, num_hidden_layers=shape.layers, num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads, head_dim=shape.head, intermediate_size=shape.inner, vocab_size=shape.vocab,
        tie_word_embeddings=shape.tied, attn_implementation="sdpa",
    )  # fmt: skip


@pytest.mark.parametrize(("name", "published"), [("nano, 0.3 M", 278_496), ("SmolLM2, 135 M", 134_515_008),
                                                 ("SmolLM2, 1.7 B", 1_711_376_384), ("Llama 3.1, 8 B", 8_030_261_248)])  # fmt: skip
def test_parameters_are_those_of_the_model(name, published):
    with torch.device("meta"):
        model = LlamaForCausalLM(config(scaling.SHAPES[name]))
    assert sum(p.numel() for p in model.parameters()) == scaling.SHAPES[name].parameters == published


def test_activations_are_what_autograd_keeps():
    shape = scaling.Shape(64, 3, 4, 2, 16, 160, 50, True)
    model, tokens, kept = LlamaForCausalLM(config(shape)).model, 96, {}
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() / 4
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(torch.randint(50, (2, tokens // 2)), use_cache=False)
    assert sum(kept.values()) / tokens == pytest.approx(shape.activations, rel=0.25)


def test_formulas_by_hand():
    shape, gpu = scaling.Shape(8, 2, 2, 1, 4, 16, 10, False), scaling.Gpu(1, 2.0, 3.0, 30.0, 4.0)
    layer = 8 * 8 + 2 * 8 * 4 + 8 * 8 + 3 * 8 * 16 + 2 * 8
    assert shape.parameters == 2 * 10 * 8 + 2 * layer + 8 and shape.cached == 2 * 2 * 4
    kept = 2 * (5 * 8 + 2 * 8 + 2 * 4 + 4 * 16)
    whole = 16 * shape.parameters + 8 * layer + 4 * 50 * kept + 2 * 4 * 25 * 10
    assert scaling.training_bytes(shape, 100, gpus=2) == whole
    flops = scaling.TOKENS * (6 * shape.parameters + 6 * 2 * 8 * scaling.LENGTH)
    summed = 2 * 0.5 * 4 * shape.parameters / 4e9
    assert scaling.update_seconds(shape, gpu, gpus=2) == pytest.approx(flops / (2 * 3e12 * scaling.MFU) + summed)
    assert scaling.update_seconds(shape, gpu, gpus=1, bfloat16=True) == pytest.approx(flops / (30e12 * scaling.MFU))
    read = 4 * (shape.parameters + scaling.ROWS / 2 * (scaling.PROMPT + scaling.NEW / 2) * shape.cached)
    assert scaling.sampling_seconds(shape, gpu, gpus=2) == pytest.approx(scaling.NEW * read / 2e12)
    assert [scaling.size(n) for n in (1.5e3, 2e6, 134.4e9, 1.234e9)] == ["1.5 kB", "2 MB", "134 GB", "1.23 GB"]


def test_what_an_update_reached_of_the_data_sheet():
    shape = scaling.Shape(8, 2, 2, 1, 4, 16, 10, False)
    one = {"model": "", "device": "NVIDIA H200", "ranks": 2, "bfloat16": True, "tokens": 1e6, "length": 100, "seconds": 0.5, "bytes": 1}
    done = 1e6 * (6 * shape.parameters + 6 * 2 * 8 * 100)
    assert scaling.mfu(shape, one) == pytest.approx(done / (2 * 0.5 * 989.4e12))
    assert scaling.mfu(shape, one | {"bfloat16": False}) == pytest.approx(done / (2 * 0.5 * 66.9e12))
    assert scaling.mfu(shape, one | {"device": "processor"}) is None


def test_the_page_holds_today_s_tables_and_says_how_each_row_came_about():
    found = json.loads(scaling.MEASURED.read_text(encoding="utf-8"))
    page = scaling.PAGE.read_text(encoding="utf-8")
    assert scaling.filled(page, found) == page, "run: python -m benchmarks.scaling"
    for name, text in scaling.tables(found).items():
        for row in text.splitlines()[2:]:
            assert ("| measured |" in row, "| calculated |" in row) == (name == "measured", name != "measured")
    with pytest.raises(ValueError, match="marks of table memory stand there 0 times"):
        scaling.filled("# no marks\n", found)


def test_the_program_of_the_page_trains_on_two_processes(tmp_path):
    examples = [SFTExample(({"role": "user", "content": f"What is {i} + 2?"},), str(i + 2)) for i in range(8)]
    teach(tmp_path, examples, vocab=300, context=64, updates=1)
    programs = re.findall(r"```python\n(.*?)```", scaling.PAGE.read_text(encoding="utf-8"), re.S)
    (tmp_path / "train.py").write_text(*programs)
    shutil.copytree(ROOT / "common", tmp_path / "common", ignore=shutil.ignore_patterns("__pycache__"))
    output = launch("train", str(tmp_path / "base"), str(tmp_path / "trained"), folder=tmp_path)
    assert len(re.findall(r"^2 processes, last loss \d+\.\d{4}, 16 turns$", output, re.M)) == 1
    assert (tmp_path / "trained" / "checkpoint-10").is_dir() and (tmp_path / "trained/model/model.safetensors").exists()
