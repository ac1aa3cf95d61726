"""Strict parameters: what is accepted, the message of each mistake, and that it comes fast."""

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Optional

import pytest

from common.config import (
    ConfigError, check_value, diff_presets, field_types, flat, from_json, load_lab, load_spec, nearest,
    parse_assignments, parse_yaml, resolve, to_json,
)
from common.sweep.unit import params_class

LAB = "profile: cpu\npapers: [ladder]\nseeds: [0, 1]\nworkers: 2\n"

SPEC = """
family: tree_search_dpo
notebook: notebooks/ladder.py
method: papers/ladder/method.py
envs: [shop-v1, countdown-v1]
estimate:
  cpu: {minutes: 4, disk_mb: 30}
parameters:
  lr: {default: 1.0e-5, smoke: 1, paper: 1.0e-6, range: "> 0", source: "table 3"}
  rounds: {default: 2, paper: unstated, range: ">= -9", source: "ours: two are needed"}
  search.alpha: {default: 0.5, range: "[0, 1]", source: "section 4.2"}
  search.simulations:
    default: 20
    cpu: {shop-v1: 12, countdown-v1: 8}
    range: "[rounds, 99]"
    source: "ours: two cores"
  search.rule: {default: ucb1, paper: puct, source: "equation 5"}
  cap: {default: null, smoke: 3, range: ">= 1", source: "ours: no cap"}
  widths: {default: [1, 2], range: ">= 1", source: "ours"}
"""

METHOD = '''
from __future__ import annotations
import a_module_that_does_not_exist
from dataclasses import dataclass
from typing import Literal, Optional
Rule = Literal["ucb1", "puct"]

@dataclass(frozen=True)
class Search:
    alpha: float
    simulations: int
    rule: Rule

@dataclass(frozen=True)
class Params:
    """Documented."""
    lr: float
    rounds: int
    search: Search
    cap: Optional[int]
    widths: tuple[int, ...]

    def __post_init__(self):
        if self.rounds < 1:
            raise ValueError(f"rounds is {self.rounds} but must be at least 1; use 1 or more")

raise RuntimeError("imported")
'''


@dataclass(frozen=True)
class Search:
    alpha: float
    simulations: int
    rule: Literal["ucb1", "puct"]


@dataclass(frozen=True)
class Params:
    lr: float
    rounds: int
    search: Search
    cap: Optional[int]
    widths: tuple[int, ...]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "papers/ladder").mkdir(parents=True)
    (tmp_path / "params.yaml").write_text(LAB)
    (tmp_path / "papers/ladder/params.yaml").write_text(SPEC)
    (tmp_path / "papers/ladder/method.py").write_text(METHOD)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_lab_is_typed_and_overrides_win(root):
    lab = load_lab(root)
    assert (lab.profile, lab.papers, lab.seeds, lab.workers) == ("cpu", ("ladder",), (0, 1), 2)
    assert load_lab(root, {"seeds": [7], "profile": "smoke"}) == replace(lab, seeds=(7,), profile="smoke")
    with pytest.raises(AttributeError):
        lab.workers = 3


@pytest.mark.parametrize(("old", "new", "words"), [
    ("workers: 2", "worker: 2", ['unknown name "worker"', 'did you mean "workers"']),
    ("workers: 2", "", ['"workers" is missing', "add"]),
    ("workers: 2", "workers: 0", ["workers is 0", "at least 1"]),
    ("workers: 2", "workers: 2.5", ["workers is 2.5", "whole number"]),
    ("workers: 2", "workers: true", ["workers is True", "whole number"]),
    ("workers: 2", "workers: '2'", ["workers is '2'", "write 2 without quotes"]),
    ("profile: cpu", "profile: cpuu", ['unknown profile "cpuu"', 'did you mean "cpu"']),
    ("[ladder]", "[laddr]", ['unknown paper "laddr"', 'did you mean "ladder"']),
    ("[ladder]", "[]", ["papers is empty", "add one"]),
    ("[ladder]", "ladder", ["papers is 'ladder'", "must be a list"]),
    ("[0, 1]", "[0, 0]", ["seeds is [0, 0]", "must not repeat"]),
    ("[0, 1]", "[0, -1]", ["seeds holds -1", "0 or more"]),
    ("[0, 1]", "[0, 1.5]", ["seeds[1] is 1.5", "whole number"]),
    ("workers: 2", "workers: 2\nworkers: 3", ["line 5", '"workers" appears twice']),
    ("[0, 1]", "[0, 1", ["not valid YAML", "line"]),
])
def test_lab_mistakes_are_told_in_one_sentence(root, old, new, words):
    edit(root / "params.yaml", old, new)
    with pytest.raises(ConfigError) as caught:
        load_lab(root)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "params.yaml" in message and "\n" not in message


def test_lab_overrides_are_checked_like_the_file(root):
    with pytest.raises(ConfigError, match='override: unknown name "seed"; did you mean "seeds"'):
        load_lab(root, {"seed": [1]})
    with pytest.raises(ConfigError, match="workers is 'two'"):
        load_lab(root, {"workers": "two"})
    (root / "params.yaml").unlink()
    with pytest.raises(ConfigError, match="params.yaml does not exist; create it"):
        load_lab(root)


@pytest.mark.parametrize(("text", "advice"), [
    ("1e-5", "1.0e-5"), ("3E4", "30000.0"), ("1.5e3", "1500.0"), ("1e10234", "signed exponent"),
    ("yes", "true or false"),
    ("off", "true or false"), ("010", "plain decimal"), ("1_000", "plain decimal"), ("0x1F", "plain decimal"),
    ("12:30", "quote"), ("2024-05-01", "quote"),
])
def test_scalars_that_yaml_readers_disagree_on_are_refused(text, advice):
    with pytest.raises(ConfigError) as caught:
        parse_yaml(f"value: {text}", "here")
    assert advice in str(caught.value) and text in str(caught.value) and "line 1" in str(caught.value)
    assert parse_yaml(f"value: '{text}'", "here") == {"value": text}


def test_unambiguous_scalars_keep_their_types():
    read = parse_yaml("[1.0e-5, 1.0e+5, -2, 0, 0.5, true, null, 1e, e5, no match, 5 min, n]", "here")
    assert read == [1e-5, 1e5, -2, 0, 0.5, True, None, "1e", "e5", "no match", "5 min", "n"]
    assert [type(item) for item in read[:4]] == [float, float, int, int]


def test_every_spelled_float_is_read_back_as_the_same_float():
    from common.config.strict import spell_float

    for number in (1e-5, 2.5e-8, 1e22, 1.5, -3e-10, 0.1):
        assert parse_yaml(spell_float(number), "here") == number


def test_duplicate_and_non_text_keys_are_errors_at_any_depth():
    with pytest.raises(ConfigError, match='here line 3: the key "b" appears twice'):
        parse_yaml("a:\n  b: 1\n  b: 2\n", "here")
    with pytest.raises(ConfigError, match="key 1 is not text"):
        parse_yaml("a: {1: x}", "here")


def test_resolve_takes_profile_then_default_and_the_value_of_the_environment(root):
    spec = load_spec(root, "ladder")
    shop = resolve(Params, spec, "cpu", "shop-v1")
    assert shop == Params(1e-5, 2, Search(0.5, 12, "ucb1"), None, (1, 2))
    assert resolve(Params, spec, "cpu", "countdown-v1").search.simulations == 8
    smoke = resolve(Params, spec, "smoke", "shop-v1")
    assert smoke.search.simulations == 20 and smoke.cap == 3
    assert smoke.lr == 1.0 and type(smoke.lr) is float  # an int in the file is fine for a float
    paper = resolve(Params, spec, "paper", "shop-v1")
    assert (paper.lr, paper.rounds, paper.search.rule) == (1e-6, 2, "puct")  # rounds: unstated, so the default
    changed = resolve(Params, spec, "cpu", "shop-v1", {"search.alpha": 1, "widths": [3]})
    assert changed == replace(shop, search=replace(shop.search, alpha=1.0), widths=(3,))
    assert spec.estimate["cpu"].minutes == 4.0 and spec.envs == ("shop-v1", "countdown-v1")


@pytest.mark.parametrize(("overrides", "words"), [
    ({"serach.alpha": 1.0}, ['unknown parameter "serach.alpha"', 'did you mean "search.alpha"']),
    ({"search": 1}, ['unknown parameter "search"']),
    ({"lr": "1e-5"}, ["lr is '1e-5'", "write 1.0e-5"]),
    ({"lr": True}, ["lr is True", "must be a number"]),
    ({"lr": float("nan")}, ["lr is nan", "finite"]),
    ({"lr": None}, ["lr is None", "nothing"]),
    ({"rounds": 2.0}, ["rounds is 2.0", "write 2"]),
    ({"rounds": True}, ["rounds is True", "whole number"]),
    ({"rounds": 0}, ["rounds is 0", "at least 1"]),
    ({"search.rule": "usb1"}, ["search.rule is 'usb1'", 'did you mean "ucb1"']),
    ({"widths": [1, "2"]}, ["widths[1] is '2'", "whole number"]),
    ({"widths": 3}, ["widths is 3", "must be a list"]),
    ({"cap": 1.5}, ["cap is 1.5", "whole number"]),
])
def test_wrong_overrides_name_field_value_rule_and_next_step(root, overrides, words):
    spec = load_spec(root, "ladder")
    with pytest.raises(ConfigError) as caught:
        resolve(params_class(root, spec), spec, "cpu", "shop-v1", overrides)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "ladder" in message and "\n" not in message and "; " in message


@pytest.mark.parametrize(("old", "new", "words"), [
    ("  lr:", "  lrr:", ['unknown parameter "lrr"', 'did you mean "lr"']),
    ("  search.rule: {default: ucb1, paper: puct, source: \"equation 5\"}\n", "", ['"search.rule"', "is missing"]),
    ('source: "table 3"', 'source: " "', ["lr.source is empty", "quote the paper"]),
    (', source: "table 3"', "", ['lr: the name "source" is missing']),
    ("smoke: 1,", "smok: 1,", ['unknown name "smok"', 'did you mean "smoke"']),
    ("default: 1.0e-5", "default: 1e-5", ["YAML readers disagree", "1.0e-5"]),
    ("default: 1.0e-5", "default: '1e-5'", ["lr (cpu, shop-v1) is '1e-5'", "write 1.0e-5"]),
    ("countdown-v1: 8", "countdwn-v1: 8", ['unknown environment "countdwn-v1"', 'did you mean "countdown-v1"']),
    (", countdown-v1: 8", "", ["search.simulations.cpu has no value for the environment countdown-v1"]),
    ("default: 2, paper", "paper", ["rounds has no value for the profile smoke"]),
    ("default: 2, paper", "default: unstated, paper", ["rounds.default", "only the paper preset"]),
    ("family:", "famly:", ['unknown name "famly"', 'did you mean "family"']),
    ("disk_mb: 30", "disk: 30", ['unknown name "disk"', "disk_mb"]),
    ("envs: [shop-v1, countdown-v1]", "envs: []", ["envs is []", "at least one"]),
])
def test_spec_mistakes(root, old, new, words):
    edit(root / "papers/ladder/params.yaml", old, new)
    with pytest.raises(ConfigError) as caught:
        resolve(Params, load_spec(root, "ladder"), "cpu", "shop-v1")
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "papers/ladder/params.yaml" in message and "\n" not in message


def test_unknown_paper_profile_and_environment(root):
    with pytest.raises(ConfigError, match='unknown paper "lader"; did you mean "ladder"'):
        load_spec(root, "lader")
    spec = load_spec(root, "ladder")
    with pytest.raises(ConfigError, match='unknown profile "smal"; did you mean "smol"'):
        resolve(Params, spec, "smal", "shop-v1")
    with pytest.raises(ConfigError, match='unknown environment "shop-v2"; did you mean "shop-v1"'):
        resolve(Params, spec, "cpu", "shop-v2")


def test_unstated_without_default_must_be_given(root):
    edit(root / "papers/ladder/params.yaml", "default: 2, paper: unstated",
         "smoke: 1, cpu: 2, smol: 2, gpu: 2, paper: unstated")
    spec = load_spec(root, "ladder")
    assert resolve(Params, spec, "smoke", "shop-v1").rounds == 1
    with pytest.raises(ConfigError, match="rounds is unstated by the paper and has no default; give it as an override"):
        resolve(Params, spec, "paper", "shop-v1")
    assert resolve(Params, spec, "paper", "shop-v1", {"rounds": 4}).rounds == 4


def test_params_class_is_read_without_importing_the_method(root):
    cls = params_class(root, load_spec(root, "ladder"))  # the file imports a missing module and raises
    assert list(field_types(cls)) == [
        "lr", "rounds", "search.alpha", "search.simulations", "search.rule", "cap", "widths"]
    edit(root / "papers/ladder/method.py", "class Params:", "class Parameters:")
    with pytest.raises(ConfigError, match="defines no class Params"):
        params_class(root, load_spec(root, "ladder"))


@pytest.mark.parametrize(("old", "new", "words"), [
    ("@dataclass(frozen=True)\nclass Params", "@dataclass\nclass Params", "not a frozen dataclass"),
    ("search: Search\n", "search: Sarch\n", "cannot be built"),
    ("class Params:", "class Params", "not valid Python"),
])
def test_a_broken_params_class_is_told(root, old, new, words):
    edit(root / "papers/ladder/method.py", old, new)
    with pytest.raises(ConfigError, match=words):
        params_class(root, load_spec(root, "ladder"))


def test_json_is_canonical_and_comes_back_equal():
    params = Params(1e-5, 2, Search(0.5, 12, "ucb1"), None, (1, 2))
    text = to_json(params)
    assert text == ('{"cap":null,"lr":1e-05,"rounds":2,'
                    '"search":{"alpha":0.5,"rule":"ucb1","simulations":12},"widths":[1,2]}')
    assert from_json(Params, text) == params and to_json(from_json(Params, text)) == text
    assert flat(params)["search.alpha"] == 0.5 and list(flat(params)) == list(field_types(Params))


@pytest.mark.parametrize(("old", "new", "words"), [
    ('"rounds":2', '"round":2', ['unknown name "round"', 'did you mean "rounds"']),
    ('"rounds":2,', "", ['"rounds" is missing']),
    ('"rounds":2', '"rounds":2,"rounds":3', ["appears twice"]),
    ('"alpha":0.5', '"alpha":"0.5"', ["search.alpha is '0.5'", "write 0.5"]),
    ('"alpha":0.5', '"alpha":NaN', ["search.alpha is nan", "finite"]),
    ('"alpha":0.5,', "", ['"search.alpha" is missing']),
    ("[1,2]}", "[1,2]", ["not valid JSON"]),
])
def test_json_is_read_strictly(old, new, words):
    text = to_json(Params(1e-5, 2, Search(0.5, 12, "ucb1"), None, (1, 2)))
    assert old in text
    with pytest.raises(ConfigError) as caught:
        from_json(Params, text.replace(old, new, 1))
    assert all(word in str(caught.value) for word in words), caught.value


def test_check_value_of_fixed_tuples_and_unsupported_types():
    assert check_value(tuple[int, float], [1, 2], "x") == (1, 2.0)
    with pytest.raises(ConfigError, match="3 items but must have 2"):
        check_value(tuple[int, float], [1, 2, 3], "x")
    with pytest.raises(ConfigError, match="x is True"):
        check_value(Literal[1, 2], True, "x")  # True == 1 in Python, not here
    with pytest.raises(TypeError, match="not supported"):
        check_value(dict, {}, "x")


def test_nearest_ignores_case_and_refuses_far_names():
    assert nearest("WORKER", ["workers", "seeds"]) == "workers"
    assert nearest("zzz", ["workers", "seeds"]) is None
    assert nearest("x", []) is None


def test_assignments_are_yaml_values():
    read = parse_assignments(["search.alpha=0.5", "seeds=[0, 1]", "name=a=b", "cap=null"])
    assert read == {"search.alpha": 0.5, "seeds": [0, 1], "name": "a=b", "cap": None}
    for texts, words in ((["alpha"], "not of the form name=value"), (["a=1", "a=2"], "given twice"),
                         (["lr=1e-5"], "1.0e-5")):
        with pytest.raises(ConfigError, match=words):
            parse_assignments(texts)


def test_preset_difference_lists_what_differs_and_only_that(root):
    lines = diff_presets(load_spec(root, "ladder"), "cpu", "paper").splitlines()
    assert [line.split()[0] for line in lines] == ["parameter", "lr", "rounds", "search.simulations", "search.rule"]
    assert lines[1].split() == ["lr", "1e-05", "1e-06", "table", "3"]
    assert "2  " in lines[2] and "unstated" in lines[2]
    assert "shop-v1: 12, countdown-v1: 8" in lines[3]
    assert diff_presets(load_spec(root, "ladder"), "cpu", "cpu") == "ladder: cpu and cpu are the same"


def test_the_parameter_path_loads_no_slow_package():
    code = ("import sys, common.config, common.track.store, common.track.mlflow_log, common.track.provenance\n"
            "print([m for m in ('torch', 'mlflow', 'numpy', 'pandas', 'transformers') if m in sys.modules])")
    repository = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_field_with_a_default_is_written_only_where_it_has_another_value():
    """So that a shared parameter that is new, and without effect, moves no key."""
    @dataclass(frozen=True)
    class Own:
        lr: float
        only: tuple[str, ...] = ()

    assert to_json(Own(0.5)) == '{"lr":0.5}' and from_json(Own, '{"lr":0.5}') == Own(0.5)
    assert from_json(Own, to_json(Own(0.5, ("a",)))) == Own(0.5, ("a",))


def test_a_pilot_names_the_variants_to_train():
    from common.lab import Variant, chosen

    variants = [Variant("base"), Variant("score"), Variant("sft")]
    assert chosen(variants, ()) == variants
    assert [one.name for one in chosen(variants, ("sft", "base"))] == ["base", "sft"]
    with pytest.raises(ConfigError, match='only: there is no variant "scor"; did you mean "score"'):
        chosen(variants, ("scor",))
