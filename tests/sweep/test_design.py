"""What a sweep tries: grids, draws from ranges, the YAML file, and one sentence for each mistake."""

from __future__ import annotations

import pytest

from common.config import ConfigError
from common.sweep.design import Range, Sweep, fitted, parse_grid, parse_range, read_sweep, settings


def drawn(*ranges: str, points: int = 8, draw: str = "latin", sample: int = 0, **grid) -> tuple[dict, ...]:
    return settings(grid, [parse_range(text) for text in ranges], points=points, draw=draw, sample=sample)


def test_grid():
    assert parse_grid(["a=0,0.5", "b=[1, 2],x"]) == {"a": [0, 0.5], "b": [[1, 2], "x"]}
    for wrong in (["a"], ["a="], ["a=1", "a=2"], ["a=1e-5"]):
        with pytest.raises(ConfigError):
            parse_grid(wrong)


def test_a_grid_is_run_whole_and_beside_each_draw():
    assert settings({"a": [1, 2], "b": ["x", "y"]}, [], points=None, draw="latin", sample=0) == (
        {"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"}, {"a": 2, "b": "y"})
    found = drawn("c=0.0:1.0", points=3, a=[1, 2])
    assert [one["a"] for one in found] == [1, 1, 1, 2, 2, 2]
    assert [one["c"] for one in found[:3]] == [one["c"] for one in found[3:]]


def test_a_latin_hypercube_has_one_draw_in_every_part():
    found = drawn("a=0.0:8.0", "b=1.0:256.0:log", "c=1:8")
    assert sorted(int(one["a"]) for one in found) == list(range(8))
    assert sorted(one["c"] for one in found) == list(range(1, 9))
    assert [sum(2.0**k <= one["b"] < 2.0 ** (k + 1) for one in found) for k in range(8)] == [1] * 8


def test_draws_repeat_and_differ_by_their_number():
    for draw in ("latin", "random"):
        first = drawn("a=0.0:1.0", "b=4:16", draw=draw)
        assert first == drawn("a=0.0:1.0", "b=4:16", draw=draw)
        assert first != drawn("a=0.0:1.0", "b=4:16", draw=draw, sample=1)
    assert drawn("a=0.0:1.0") != drawn("a=0.0:1.0", draw="random")


def test_drawn_numbers_keep_their_kind_and_their_range():
    whole = [one["a"] for one in drawn("a=4:6", points=300, draw="random")]
    assert set(whole) == {4, 5, 6} and all(type(value) is int for value in whole)
    assert all(75 <= whole.count(value) <= 125 for value in (4, 5, 6))  # a third each, the ends not less
    real = [one["a"] for one in drawn("a=0.1:0.3", points=300, draw="random")]
    assert 0.1 <= min(real) < 0.11 and 0.29 < max(real) <= 0.3
    assert all(float(f"{value:.4g}") == value for value in real)
    assert Range("a", 1, 8, log=True).at(0.0) == 1 and Range("a", 1, 8, log=True).at(0.9999) == 8
    assert Range("a", 1.0e-4, 1.0e-2, log=True).at(0.5) == pytest.approx(1e-3)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: parse_range("a=1"), 'the range "a=1" is not of the form'),
    (lambda: parse_range("a=1:2:lin"), "is not of the form"),
    (lambda: parse_range("a=x:2"), "the range of a ends at 'x' but must end at numbers"),
    (lambda: parse_range("a=2:1"), "the range of a is 2 to 1 but must rise;"),
    (lambda: parse_range("a=0:1:log"), "must rise from above 0 on a log scale"),
    (lambda: drawn("a=0:1", points=0), "points is 0 but"),
    (lambda: drawn("a=0:1", points=None), "points is None but"),
    (lambda: drawn("a=0:1", draw="latein"), 'unknown draw "latein"; did you mean "latin"?'),
    (lambda: drawn("a=0:1", a=[1]), 'the parameter "a" is swept twice'),
    (lambda: settings({}, [], points=None, draw="latin", sample=0), "no parameter to change"),
    (lambda: settings({"a": [1]}, [], points=3, draw="latin", sample=0), "no range to draw from"),
])  # fmt: skip
def test_a_mistake_is_one_sentence(call, message):
    with pytest.raises(ConfigError, match="^[^\n]*$") as error:
        call()
    assert message in str(error.value)


FILE = """
paper: score
envs: [arithmetic-v1]
profile: smoke
seeds: 0-1
metric: delta
grid: {rl.alpha: [1.0, 10.0]}
ranges: {rl.lr: {from: 0.0001, to: 0.001, scale: log}, rl.group: {from: 4, to: 8}}
points: 3
sample: 5
"""


def test_a_file_says_what_the_options_say(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text(FILE)
    ranges = (parse_range("rl.lr=0.0001:0.001:log"), parse_range("rl.group=4:8"))
    assert read_sweep(path) == Sweep(
        "score", {"rl.alpha": [1.0, 10.0]}, ranges, points=3, sample=5, seeds="0-1", envs=("arithmetic-v1",), profile="smoke",
        metric="delta")
    path.write_text("paper: toy\ngrid: {steps: [3]}\n")
    assert read_sweep(path) == Sweep("toy", {"steps": [3]})
    path.write_text(FILE.replace("metric: delta", "search: delta\nminimise: true\nvariant: score"))
    assert read_sweep(path) == Sweep(
        "score", {"rl.alpha": [1.0, 10.0]}, ranges, points=3, sample=5, seeds="0-1", envs=("arithmetic-v1",), profile="smoke",
        metric="delta", variant="score", search=True, minimise=True)


def test_whole_ends_of_a_real_parameter_are_an_interval():
    ranges = [Range("rate", 0, 1), Range("depth", 0, 1)]
    assert fitted(ranges, {"rate": float, "depth": int}) == (Range("rate", 0.0, 1.0), Range("depth", 0, 1))
    assert type(fitted(ranges, {"rate": float})[0].at(0.4)) is float


@pytest.mark.parametrize(("change", "message"), [
    (("paper: score", ""), 'sweep.yaml: the name "paper" is missing'),
    (("points", "poinst"), 'sweep.yaml: unknown name "poinst"; did you mean "points"?'),
    (("[1.0, 10.0]", "1.0"), "sweep.yaml: the grid of rl.alpha is 1.0 but must be a list"),
    (("scale: log", "scale: lgo"), "sweep.yaml: the scale of rl.lr is 'lgo'; did you mean \"log\"?"),
    (("{from: 4, to: 8}", "4"), "sweep.yaml: the range of rl.group is 4 but must say from and to"),
    (("{from: 4, to: 8}", "{from: 4}"), 'the name "to" is missing'),
    (("envs: [arithmetic-v1]", "envs: arithmetic-v1"), "sweep.yaml: envs is 'arithmetic-v1', text, but must be a list"),
    (("0.0001", "1e-4"), "YAML readers disagree"),
    (("sample: 5", "search: delta"), "sweep.yaml: metric is 'delta' beside search but a search has its own"),
])  # fmt: skip
def test_a_mistake_in_the_file_is_one_sentence(tmp_path, change, message):
    path = tmp_path / "sweep.yaml"
    path.write_text(FILE.replace(*change))
    with pytest.raises(ConfigError, match="^[^\n]*$") as error:
        read_sweep(path)
    assert message in str(error.value)


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match="sweep.yaml does not exist"):
        read_sweep(tmp_path / "sweep.yaml")
