"""Metric rows: validation, deterministic bytes, identity."""

import json

import numpy as np
import pytest

from common.config import ConfigError
from common.rows import COST_FIELDS, Label, cost_of, read_metrics, write_metrics
from common.types import Cost
from tests.track.units import row


def test_bytes_do_not_depend_on_the_order_of_rows(tmp_path):
    rows = [row(), row(variant="base"), row(seed=0), row(metric="reward", value=1 / 3)]
    write_metrics(tmp_path / "a.jsonl", rows)
    write_metrics(tmp_path / "b.jsonl", rows[::-1])
    text = (tmp_path / "a.jsonl").read_text()
    assert text == (tmp_path / "b.jsonl").read_text()
    assert [json.loads(line)["variant"] for line in text.splitlines()] == ["base", "dpo", "dpo", "dpo"]
    assert "0.3333333333333333" in text  # the shortest text that reads back as the same float
    assert read_metrics(tmp_path / "a.jsonl") == sorted(rows, key=lambda r: r.identity)


def test_first_line_is_as_documented(tmp_path):
    write_metrics(tmp_path / "a.jsonl", [row(value=1)])
    assert (tmp_path / "a.jsonl").read_text() == (
        '{"cost": {"env_steps": 0, "lm_calls": 1, "prompt_tokens": 2, "sampled_tokens": 3, "samples": 6, '
        '"scored_tokens": 4, "updates": 5}, "env": "shop-v1", "metric": "success", "n": 40, "panel": "shop-v1/test", '
        '"paper": "ladder", "profile": "cpu", "scale": "nano", "seed": 3, "value": 1.0, "variant": "dpo"}\n')


def test_cost_of_drops_wall_clock_and_keeps_every_counter():
    counters = cost_of(Cost(env_steps=5, samples=2, seconds=1.5))
    assert tuple(counters) == COST_FIELDS and "seconds" not in counters
    assert counters["env_steps"] == 5 and counters["samples"] == 2 and counters["updates"] == 0


def test_numpy_numbers_become_plain_ones():
    made = row(value=np.float32(0.5), n=np.int64(7))
    assert (type(made.value), made.value, type(made.n)) == (float, 0.5, int)


@pytest.mark.parametrize(("changes", "words"), [
    ({"value": float("nan")}, "value is nan but must be a finite number"),
    ({"value": float("inf")}, "value is inf"),
    ({"value": True}, "value is True"),
    ({"value": "0.5"}, "value is '0.5'"),
    ({"n": 0}, "n is 0 but must be a whole number of at least 1"),
    ({"seed": -1}, "seed is -1"),
    ({"seed": 1.0}, "seed is 1.0"),
    ({"variant": ""}, "variant is ''"),
    ({"cost": {"env_steps": 1}}, "cost.lm_calls is None"),
    ({"cost": {**dict.fromkeys(COST_FIELDS, 0), "seconds": 3}}, 'unknown cost "seconds"'),
    ({"cost": {**dict.fromkeys(COST_FIELDS, 0), "updates": -1}}, "cost.updates is -1"),
])
def test_wrong_rows_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        row(**changes)


def test_two_rows_of_one_identity_are_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(ConfigError, match="two rows for ladder/shop-v1/cpu/nano/dpo/3/shop-v1/test/success"):
        write_metrics(tmp_path / "a.jsonl", [row(), row(value=0.5)])
    assert list(tmp_path.iterdir()) == []


def test_damaged_files_name_the_line(tmp_path):
    file = tmp_path / "results/ladder/a.jsonl"
    write_metrics(file, [row(), row(seed=4)])
    file.write_text(file.read_text().replace('"seed": 4', '"sead": 4'))
    with pytest.raises(ConfigError, match="^results/ladder/a.jsonl line 2 is not a metric row .*; take the committed file by git checkout -- results/ladder/a.jsonl"):
        read_metrics(file)
    with pytest.raises(ConfigError, match="gone.jsonl cannot be read"):
        read_metrics(tmp_path / "gone.jsonl")


@pytest.mark.parametrize(("name", "stem", "at", "acting", "policy"), [
    ("malt", "malt", "", "", "malt"), ("malt+vote", "malt", "", "vote", "malt"), ("pass@8", "pass", "8", "", "pass@8"),
    ("cory@eta=0.2+vote_tok", "cory", "eta=0.2", "vote_tok", "cory@eta=0.2"),
])
def test_a_name_is_read_back_as_its_parts(name, stem, at, acting, policy):
    label = Label.of(name)
    assert (label.stem, label.at, label.acting, label.policy, str(label)) == (stem, at, acting, policy, name)
