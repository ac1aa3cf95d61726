"""A run folder says on which processors it was computed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from common.sweep.verify import another_processor
from common.track import processor
from common.track.store import Run
from tests.track.units import UNIT, row

OLD = {"model": "Z80", "limits": "", "PyTorch": "AVX2"}


def test_what_is_loaded_is_named_and_nothing_is_loaded_for_it():
    code = ("import json, sys; from common.track.processor import present; before = present(); assert 'torch' not in sys.modules; "
            "import common.lm.native; torch_alone = present(); assert 'native.c' not in torch_alone; common.lm.native.library(); print(json.dumps([before, present()]))")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), "ATEN_CPU_CAPABILITY": "default",
                               "MKL_ENABLE_INSTRUCTIONS": "AVX2"})  # fmt: skip
    before, after = json.loads(done.stdout)
    assert before == {"model": processor.model(), "limits": "MKL_ENABLE_INSTRUCTIONS=AVX2"}
    assert {**before, "PyTorch": after["PyTorch"], "native.c": after["native.c"]} == after
    assert after["PyTorch"] in ("DEFAULT", "NO AVX") and after["native.c"]


def test_a_unit_that_went_on_elsewhere_names_both(tmp_path, monkeypatch):
    monkeypatch.setattr(processor, "present", lambda: OLD)
    run = Run.open(tmp_path, UNIT)
    assert processor.read(run.path) == []  # nothing was computed, or that was before there was a record
    run.stage("one", lambda: 1)
    assert processor.read(run.path) == [OLD]
    monkeypatch.setattr(processor, "present", lambda: OLD | {"native.c": "AVX2"})  # loaded since: the same processor, better known
    run.stage("two", lambda: 2)
    assert processor.read(run.path) == [OLD | {"native.c": "AVX2"}]
    run.close()
    monkeypatch.setattr(processor, "present", lambda: OLD | {"PyTorch": "AVX512"})
    run = Run.open(tmp_path, UNIT)
    run.stage("two", lambda: 3)  # finished there: nothing is computed
    assert len(processor.read(run.path)) == 1
    run.write_rows([row()])
    run.finish()
    assert [one["PyTorch"] for one in processor.read(run.path)] == ["AVX2", "AVX512"]


@pytest.mark.parametrize(("published", "here", "said"), [
    ([OLD], [OLD], ""),
    ([OLD], [OLD | {"native.c": "AVX"}], ""),  # code that was not loaded there computed nothing
    ([OLD], [OLD | {"PyTorch": "AVX512"}], "published on Z80, PyTorch AVX2; recomputed on Z80, PyTorch AVX512)"),
    ([OLD], [OLD | {"limits": "MKL_CBWR=AVX"}], "recomputed on Z80, PyTorch AVX2, MKL_CBWR=AVX)"),
    ([OLD], [OLD | {"gpu": "one"}], "recomputed on Z80, PyTorch AVX2, one)"),
    ([OLD], [], "nor is it known of the recomputed unit"),
    ([], [OLD], "the table does not say"),
    ([OLD, OLD | {"model": "8080"}], [OLD, OLD | {"model": "8080"}], "published on Z80, PyTorch AVX2 and 8080, PyTorch AVX2; re"),
])  # fmt: skip
def test_only_one_and_the_same_processor_lets_numbers_be_compared_digit_by_digit(published, here, said):
    sentence = another_processor(published, here)
    assert said in sentence and bool(sentence) == bool(said)
