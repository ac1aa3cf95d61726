"""Numbers that are none: who is named, what is kept, and nothing at all otherwise."""

from __future__ import annotations

import json
import math

import pytest

from common.learn.finite import require_finite


@pytest.mark.parametrize(("numbers", "named"), [
    ({"loss": math.nan, "gradient norm": 1.0}, "loss is nan"),
    ({"loss": 0.5, "gradient norm": math.inf}, "gradient norm is inf"),
    ({"loss": -math.inf}, "loss is -inf"),
])  # fmt: skip
def test_the_first_that_is_not_finite_is_named_and_the_batch_saved(tmp_path, numbers, named):
    folder = tmp_path / "new" / "artifacts"
    with pytest.raises(FloatingPointError) as caught:
        require_finite("sft", 7, numbers, lr=0.1, batch=lambda: {"rows": [[1, 2]]}, out_dir=folder)
    file = folder / "failed_batch.json"
    assert str(caught.value).startswith(f"sft: {named} at update 7 with lr 0.1, ") and f"'{file}'" in str(caught.value)
    saved = json.loads(file.read_text(), parse_constant=pytest.fail)  # strict JSON: no NaN
    assert saved == {"stage": "sft", "step": 7, "lr": 0.1, "rows": [[1, 2]]} | {k: str(v) for k, v in numbers.items()}


def test_finite_numbers_write_nothing_and_build_no_batch(tmp_path):
    require_finite("sft", 1, {"loss": -3.0, "gradient norm": 0.0}, lr=0.1, batch=lambda: pytest.fail("built"), out_dir=tmp_path)
    assert not any(tmp_path.iterdir())
