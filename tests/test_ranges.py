"""Ranges of parameters: what they mean, where they are checked, and that every parameter of every paper has one."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest

from common.config import (
    PROFILES, ConfigError, field_types, from_json, known_papers, load_spec, parse_range, ranges_of, resolve, to_json,
)
from common.config.ranges import TASKS, wants_range
from common.config.spec import shared_parameters
from common.sweep.plan import check_files, plan
from common.sweep.sizes import check_panels, panel_sizes
from common.sweep.unit import params_class

ROOT = Path(__file__).resolve().parents[1]
PAPERS = known_papers(ROOT)


# -- what a range says ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "good", "bad"), [
    ("> 0", [1e-300, 5], [0, 0.0, -1]),
    (">= 1", [1, 2.5], [0, 0.999, -3]),
    ("< 1", [0.5, -7], [1, 2]),
    ("<=-2", [-2, -3.5], [-1.9]),
    ("[0, 1]", [0, 1, 0.5], [-0.1, 1.1]),
    ("(0, 1]", [0.001, 1], [0, 1.001]),
    ("[0,1)", [0, 0.99], [1, -1]),
    ("(-1.5, 2.0e+3)", [0, 1999.9], [-1.5, 2000]),
    ("[3, 3]", [3], [2, 4]),
    ("[0, rl.updates]", [0, 100], [101, -1]),
    (">= learn.returns", [5, 6], [4]),
    ("[1, tasks(train)]", [1, 600], [601, 0]),
    ("not empty", ["a", [1], 0], ["", [], ()]),
    (">= 0", [[0.0, 2.0], (), True, None, "text"], [[0.0, -2.0]]),
])  # fmt: skip
def test_values_inside_and_outside(text, good, bad):
    known = {"rl.updates": 100, "learn.returns": 5, "tasks(train)": 600}
    for value in good:
        parse_range(text).check(value, "x", known)
    for value in bad:
        with pytest.raises(ConfigError):
            parse_range(text).check(value, "x", known)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("text", ["> 0", "< 0", "[0, 1]", ">= rl.updates"])
def test_no_range_holds_what_is_not_finite(text, value):
    with pytest.raises(ConfigError, match="x is -?(nan|inf) but must be a finite number"):
        parse_range(text).check(value, "x", {})


def test_the_sentence_has_field_value_rule_and_next_step():
    for text, value, sentence in (
        ("> 0", -0.1, "lr is -0.1 but must be above 0; give a larger number"),
        ("(0, 1]", 2, "lr is 2 but must be above 0 and at most 1; give a smaller number"),
        ("[0, n]", 7, "lr is 7 but must be at least 0 and at most 5 (n); give a smaller number"),
        ("[1, tasks(train)]", 700, "lr is 700 but must be at least 1 and at most 600 (all of them); give a smaller number"),
        ("not empty", "", "lr is '' but must not be empty; write at least one word"),
        (">= 1", [3, 0], "lr[1] is 0 but must be at least 1; give a larger number"),
    ):
        with pytest.raises(ConfigError) as caught:
            parse_range(text).check(value, "lr", {"n": 5, "tasks(train)": 600}, {"tasks(train)": "all of them"})
        assert str(caught.value) == sentence


@pytest.mark.parametrize("text", ["", "positive", "0", ">", "> x y", "[0, 1", "0..1", "(1, 1]", "[2, 1]", "{0, 1}", "[0; 1]", "= 3"])
def test_other_texts_are_no_ranges(text):
    with pytest.raises(ConfigError, match="here is "):
        parse_range(text, "here")


# -- where it stands --------------------------------------------------------------------------------------------------


METHOD = """from dataclasses import dataclass

@dataclass(frozen=True)
class Learn:
    updates: int
    first: int
    lr: float

@dataclass(frozen=True)
class Params:
    learn: Learn
    words: str
"""
SPEC = """family: toy
envs: [shop-v1, countdown-v1]
parameters:
  learn:
    updates: {default: 10, cpu: {shop-v1: 4, countdown-v1: 8}, range: ">= 1", source: ours}
    first: {default: 2, range: "[0, learn.updates]", source: ours}
    lr: {default: 0.5, paper: 0.1, range: "(0, 1]", source: ours}
  words: {default: why, range: not empty, source: ours}
"""


@pytest.fixture
def toy(tmp_path):
    """``toy(old, new)``: the toy's parameter file with ``new`` for ``old``, resolved with overrides."""
    folder = tmp_path / "papers/toy"
    folder.mkdir(parents=True)
    (folder / "method.py").write_text(METHOD)

    def of(old: str = "", new: str = "", profile: str = "cpu", **overrides):
        assert old in SPEC
        (folder / "params.yaml").write_text(SPEC.replace(old, new, 1))
        spec = load_spec(tmp_path, "toy")
        return resolve(params_class(tmp_path, spec), spec, profile, "shop-v1", {k.replace("__", "."): v for k, v in overrides.items()})

    return of


def test_values_within_their_ranges_are_as_before(toy):
    found = toy(learn__first=4)
    assert (found.learn.updates, found.learn.first, found.learn.lr, found.words) == (4, 4, 0.5, "why")
    assert to_json(found) == '{"learn":{"first":4,"lr":0.5,"updates":4},"words":"why"}'  # ranges are no part of what is hashed


@pytest.mark.parametrize(("old", "new", "words"), [
    ("paper: 0.1", "paper: 3.0", ["papers/toy/params.yaml: learn.lr.paper is 3.0", "at most 1"]),  # not the profile that is run
    ("countdown-v1: 8", "countdown-v1: 0", ["learn.updates.cpu (countdown-v1) is 0", "at least 1"]),  # not the environment either
    ("default: 0.5", "default: .nan", ["learn.lr.default is nan", "finite"]),
    ("default: 2", "default: 5", ["learn.first (cpu, shop-v1) is 5", "at most 4 (learn.updates)"]),
    ("default: why", "default: ''", ["words.default is ''", "not be empty"]),
    ('range: "(0, 1]", ', "", ["learn.lr has no range", "add range:"]),
    ("range: not empty, ", "", ["words has no range"]),
    ('range: "(0, 1]"', "range: [0, 1]", ["learn.lr.range is [0, 1]", "a text in quotes"]),
    ('range: "(0, 1]"', "range: positive", ['learn.lr.range is "positive"', "write for example"]),
    ("[0, learn.updates]", "[0, learn.update]", ['the range of learn.first ends at "learn.update"', 'did you mean "learn.updates"']),
    ("envs: [shop-v1, countdown-v1]", "envs: [shopp-v1, countdown-v1]", ['unknown environment "shopp-v1"', 'did you mean "shop-v1"']),
])  # fmt: skip
def test_a_mistake_in_the_file_is_told_when_it_is_read(toy, old, new, words):
    with pytest.raises(ConfigError) as caught:
        toy(old, new)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "papers/toy/params.yaml" in message and "\n" not in message and "; " in message


def test_an_override_is_held_against_its_range(toy):
    for overrides, words in (({"learn__lr": -0.1}, "override of toy: learn.lr is -0.1 but must be above 0"),
                             ({"learn__updates": 1}, "learn.first .cpu, shop-v1. is 2 but must be at least 0 and at most 1"),
                             ({"words": ""}, "override of toy: words is ''")):
        with pytest.raises(ConfigError, match=words):
            toy(**overrides)


@dataclass(frozen=True)
class Shared:
    tokens: Annotated[int, parse_range(">= 1")]


def test_a_range_may_stand_with_the_type():
    assert from_json(Shared, '{"tokens":1}') == Shared(1) and field_types(Shared) == {"tokens": int}
    with pytest.raises(ConfigError, match="parameters: tokens is 0 but must be at least 1"):
        from_json(Shared, '{"tokens":0}')


# -- every parameter of every paper -----------------------------------------------------------------------------------


@pytest.mark.parametrize("paper", PAPERS)
def test_every_parameter_has_a_range_and_every_preset_is_in_it(paper):
    spec = load_spec(ROOT, paper)
    cls = params_class(ROOT, spec)
    ranges = ranges_of(cls, spec)
    bare = [name for name, kind in field_types(cls).items() if wants_range(kind) and not ranges[name] and name != "only"]
    assert bare == []
    for profile in PROFILES:
        for env in spec.envs:
            resolve(cls, spec, profile, env)


@pytest.mark.parametrize("paper", PAPERS)
def test_every_parameter_refuses_what_is_outside_its_range(paper):
    spec = load_spec(ROOT, paper)
    cls = params_class(ROOT, spec)
    for name, ranges in ranges_of(cls, spec).items():
        for one in ranges:
            kind = field_types(cls)[name]
            number = next((one for one in (kind, *getattr(kind, "__args__", ())) if one in (int, float)), None)
            outside = -1e9 if one.low is not None else 1e9
            wrong = number(outside) if number else ""
            given = [wrong] if number and kind is not number else wrong if kind in (int, float, str) else []
            with pytest.raises(ConfigError, match=f"override of {paper}: {name}"):
                resolve(cls, spec, "cpu", spec.envs[0], {name: given})


@pytest.mark.parametrize("name", sorted(shared_parameters().keys() - {"only", "four_bit", "admission"}))
def test_shared_parameters_have_theirs_once(name):
    from common.config import ModelParams, field_ranges

    assert name in field_ranges(ModelParams)


# -- more tasks than there are ----------------------------------------------------------------------------------------


@pytest.fixture
def asked():
    """``asked(paper, env, …)``: what refuses those overrides, "" where nothing does."""
    def of(paper: str, env: str, profile: str = "cpu", **overrides) -> str:
        spec = load_spec(ROOT, paper)
        given = {name.replace("__", "."): value for name, value in overrides.items()}
        try:
            check_panels(ROOT, spec, profile, env, resolve(params_class(ROOT, spec), spec, profile, env, given), given)
        except ConfigError as error:
            return str(error)
        return ""

    return of


def test_a_panel_is_never_cut_in_silence(asked):
    assert panel_sizes(ROOT, "shop-v1") == {"demos": 1201, "test": 300, "test_products": 232, "train": 500, "validation": 100}
    assert asked("score", "arithmetic-v1", test__tasks=400) == ""
    assert "test.tasks is 401 but must be at least 1 and at most 400 (all tasks of arithmetic-v1/test)" in asked(
        "score", "arithmetic-v1", test__tasks=401)  # fmt: skip
    assert "at most 232 (all tasks of shop-v1/test_products)" in asked("early_experience", "shop-v1", test__tasks=233)
    assert "experience.tasks is 501 but must be at least 1 and at most 500 (all tasks of shop-v1/train)" in asked(
        "early_experience", "shop-v1", experience__tasks=501)  # fmt: skip


def test_a_pilot_on_a_smaller_panel_needs_no_other_preset(asked):
    assert asked("score", "arithmetic-v1", panels=["validation"]) == ""  # the preset is 400, the panel has 200
    assert "at most 200 (all tasks of arithmetic-v1/validation)" in asked("score", "arithmetic-v1", panels=["validation"], test__tasks=201)


def test_a_panel_that_is_none_is_named(asked):
    assert 'panels holds "tset", which arithmetic-v1 does not have; did you mean "test"' in asked("score", "arithmetic-v1", panels=["tset"])
    assert 'panels holds "catalogue", which shop-v1 does not have' in asked("webevolver", "shop-v1", panels=["catalogue"])
    assert 'panels holds "test" twice' in asked("score", "arithmetic-v1", panels=["test", "test"])


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.parametrize("profile", ["smoke", "cpu", "smol", "gpu"])
def test_no_preset_asks_for_more_tasks_than_there_are(asked, paper, profile):
    for env in load_spec(ROOT, paper).envs:
        if (ROOT / "data" / env).is_dir():  # else the tasks are a user's
            assert asked(paper, env, profile) == ""


# -- in commands ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "message"), [
    (["--grid", "steps=2,0"], "override of toy: steps is 0 but must be at least 1"),
    (["--grid", "pause=-1.0"], "override of toy: pause is -1.0 but must be at least 0"),
    (["--grid", "pause=.nan"], "override of toy: pause is nan but must be a finite number"),
    (["--range", "steps=0:9", "--points", "1"], "an end of the range of steps is 0 but must be at least 1"),
    (["--range", "pause=-1.0:1.0", "--points", "1", "--search", "total"], "an end of the range of pause is -1.0 but must be at least 0"),
    (["--range", "stepps=1:9", "--points", "1"], 'range: unknown parameter "stepps"; did you mean "steps"'),
])  # fmt: skip
def test_sweeps_refuse_it_before_anything_runs(lab, run_in, words, message):
    for more in ([], ["--dry-run"]):
        done = run_in(lab, "sweep", "--paper", "toy", "--variant", "method", *words, *more)
        assert done.returncode == 2 and message in done.stdout, done.stdout
    assert not (lab / "runs").exists()


def test_a_plan_asks_for_no_more_tasks_than_there_are(lab):
    (lab / "data/toy-v1/manifest.json").write_text(json.dumps({"files": {"test.jsonl": {"rows": 3, "sha256": ""}}}))
    params = lab / "papers/toy/params.yaml"
    params.write_text(params.read_text().replace("steps: {default: 4, range: \">= 1\"", 'steps: {default: 3, range: "[1, tasks(test)]"'))
    with pytest.raises(ConfigError, match=r"steps is 4 but must be at least 1 and at most 3 \(all tasks of toy-v1/test\)"):
        plan(lab, "toy", seeds=(0,), profile="cpu", grid=[{"steps": 4}], dry=True)
    assert TASKS.fullmatch("tasks(test)")


@pytest.mark.parametrize(("file", "old", "new", "message"), [
    ("params.yaml", "profile: cpu", "profil: cpu", 'unknown name "profil"; did you mean "profile"'),
    ("params.yaml", "workers: 2", "workers: 2\nprofil: cpu", 'unknown name "profil"'),
    ("papers/toy/params.yaml", "toy-v1", "toyy-v1", 'unknown environment "toyy-v1"; did you mean "toy-v1"'),
    ("papers/toy/params.yaml", "default: 4", "default: 0", "steps.default is 0 but must be at least 1"),
])  # fmt: skip
def test_what_begins_with_training_reads_all_parameters_first(lab, run_in, file, old, new, message):
    """``dvc repro`` begins with the base models and ``attest``, and meets parameters in its third stage only."""
    assert check_files(lab).papers == ("toy",)
    path = lab / file
    path.write_text(path.read_text().replace(old, new, 1))
    for command in (["base", "--env", "shop-v1"], ["attest"], ["smoke"], ["repro", "--dry-run"], ["run", "--paper", "toy", "--dry-run"]):
        done = run_in(lab, *command)
        assert done.returncode == 2 and message in done.stdout, (command, done.stdout)
