"""Attesting changed code: keys that move and come back, moved behaviours, units that stay finished, papers proven the same.

The laboratory's files are edited; probes run the real modules, which are patched where an edit is to change what they do.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from common.config import ConfigError
from common.lm.bases import settings_for
from common.rows import COST_FIELDS, MetricRow, write_metrics
from common.sweep import adopt as adopting
from common.sweep import attest as attesting
from common.sweep import inputs
from common.sweep.attest import attest
from common.sweep.compared import _command, attest_paper
from common.sweep.identity import Identities
from common.sweep.plan import plan
from common.sweep.inputs import record, table_state
from common.track.fingerprints import read
from common.track.store import Run, UnitSpec, is_finished, unit_path

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ["search", "rollouts"]
STEPS, DRAW, PLAY, ENGINE = (f"common/{name}.py" for name in ("search/steps", "search/draw", "search/rollout", "lm/engine"))
ENV = "common/envs/versions/toy_v1.py"
PLAIN = "papers/plain/method.py"


def edit(lab: Path, name: str, old: str, new: str) -> None:
    text = (lab / name).read_text()
    assert text.count(old) >= 1, (name, old)
    (lab / name).write_text(text.replace(old, new, 1))


@pytest.fixture
def lab(lab: Path) -> Path:
    """The small laboratory, whose paper searches; beside it code that only plays."""
    edit(lab, "papers/toy/method.py", "import time\n", "import time\nfrom common.search.mcts import search\n")
    (lab / PLAIN).parent.mkdir()
    (lab / PLAIN).write_text("from common.search.rollout import rollout\n")
    return lab


def unit(lab: Path, seed: int = 0) -> UnitSpec:
    return plan(lab, "toy", seeds=(seed,), profile="cpu")[0].unit


def plain(lab: Path) -> dict[str, str]:
    """What the code that only plays depends on."""
    return Identities(lab).of((PLAIN, ENV), "toy-v1").layers


def finish(lab: Path, seed: int = 0, value: float = 1.0) -> UnitSpec:
    """The present unit of ``seed`` with one row."""
    wanted = unit(lab, seed)
    run = Run.open(lab, wanted)
    run.write_rows([MetricRow("toy", "toy-v1", "cpu", "nano", "method", seed, "toy-v1/test", "total", value, 1, dict.fromkeys(COST_FIELDS, 0))])
    run.finish()
    return wanted


def test_code_that_no_probe_ran_has_a_key_of_its_own_and_no_error(lab):
    found = unit(lab)
    assert set(found.layers) >= {"search", "rollouts"} and all(
        one.startswith("unattested:") for name, one in found.layers.items() if not name.startswith("file:"))
    edit(lab, STEPS, "q + c * math", "q + 2 * c * math")
    assert unit(lab).key != found.key and unit(lab).layers["rollouts"] == found.layers["rollouts"]


def test_texts_and_drawings_leave_the_key_once_the_probe_says_so(lab, capsys):
    assert attest(lab, LAYERS, check=False) == 0
    key, (search,) = unit(lab).key, read(lab).layers["search"]
    assert unit(lab).layers["search"] == search and "unattested" not in unit(lab).layers["rollouts"]
    edit(lab, STEPS, '"""q + c·sqrt', '"""The value: q + c·sqrt')
    assert unit(lab).key == key  # a docstring is no code
    for name, old, new in ((STEPS, "pass at least one child to choose from", "there is no child"),
                           (DRAW, 'GREY = "#d9d9d9"', 'GREY = "#cccccc"'), (PLAY, "def _cut(", "def _spare(): ...\n\n\ndef _cut(")):  # fmt: skip
        edit(lab, name, old, new)
        assert unit(lab).key != key
        assert attest(lab, LAYERS, check=False) == 0
        assert unit(lab).key == key and "search: 109 values" in (printed := capsys.readouterr().out)
        assert f"the same behaviour ({search}): results stay" in printed and "stale" not in printed
    attested = read(lab).layers["search"][search].attested
    assert len(attested) == 4 and {one["what"] for one in attested.values()} == {
        "109 values seen first", "109 of 109 values recomputed as before"}


def test_a_changed_rule_is_a_new_behaviour_for_who_reaches_it_alone(lab, capsys, monkeypatch):
    attest(lab, LAYERS, check=False)
    key, others = unit(lab).key, plain(lab)
    assert set(others) == {"rollouts", "env:toy-v1"}
    edit(lab, STEPS, "gamma ** (steps_after", "0.99 * gamma ** (steps_after")
    from common.search import mcts

    right = mcts.backup
    with monkeypatch.context() as patch:
        patch.setattr(mcts, "backup", lambda *given: [(node, 0.99 * value) for node, value in right(*given)])
        assert attest(lab, LAYERS, check=False) == 0
        printed = capsys.readouterr().out
        assert "a new behaviour" in printed and "basic.value: " in printed and "results of these papers are stale: toy\n" in printed
        assert unit(lab).key != key and plain(lab) == others
        assert attest(lab, LAYERS, check=True) == 0
    edit(lab, STEPS, "0.99 * gamma ** (steps_after", "gamma ** (steps_after")
    assert attest(lab, ["search"], check=False) == 0
    assert unit(lab).key == key  # the same values have the same name again, although no table had kept it


def test_values_that_the_attested_code_gives_here_too_are_the_processor_s(lab, capsys, monkeypatch):
    attest(lab, LAYERS, check=False)
    key, (search,) = unit(lab).key, read(lab).layers["search"]
    edit(lab, STEPS, "gamma ** (steps_after", "1.0 * gamma ** (steps_after")
    from common.search import mcts

    asked, right = [], mcts.backup
    monkeypatch.setattr(attesting, "_same_here", lambda root, name, before, values: asked.append((name, before.values, values)) or "abc123")
    monkeypatch.setattr(mcts, "backup", lambda *given: [(node, 0.99 * value) for node, value in right(*given)])
    assert attest(lab, LAYERS, check=False) == 0 and unit(lab).key == key
    assert f"the same behaviour ({search}): results stay; values as the code of abc123 gives on this processor" in capsys.readouterr().out
    [(name, before, values)] = asked
    assert name == "search" and before["basic.value"] != values["basic.value"]
    assert read(lab).layers["search"][search].values == before  # those of the processor that recorded them


def test_the_attested_code_is_run_out_of_git():
    """The last commit that attested a layer of the laboratory itself gives its values again; none gives others."""
    layer, own, commit = max(
        ((name, one, entry["commit"]) for name in ("evaluation", "correction", "gradient", "search", "rollouts", "wrappers")
         for one in read(ROOT).layers[name].values() for entry in one.attested.values() if not entry["commit"].endswith("+")),
        key=lambda found: max(entry["date"] for entry in found[1].attested.values()))  # fmt: skip
    own = replace(own, attested={"digest": {"commit": commit, "date": "2026-01-01"}})
    if subprocess.run(["git", "-C", str(ROOT), "cat-file", "-e", commit], capture_output=True).returncode:
        pytest.skip(f"commit {commit} is not in this clone")
    name = next(name for name, value in own.values.items() if isinstance(value, float) and abs(value) > 0.01)
    assert attesting._same_here(ROOT, layer, own, own.values) == commit
    assert attesting._same_here(ROOT, layer, own, own.values | {name: own.values[name] * 1.1}) == ""
    for unknown in ("0" * 12, "abc+"):
        assert attesting._same_here(ROOT, layer, replace(own, attested={"digest": {"commit": unknown, "date": "2026-01-01"}}), own.values) == ""


def test_check_writes_nothing_and_fails_for_unknown_code_and_other_behaviour(lab, capsys, monkeypatch):
    assert attest(lab, ["search"], check=True) == 1 and "not attested" in capsys.readouterr().out
    assert not (lab / "fingerprints.json").exists()
    attest(lab, LAYERS, check=False)
    before = (lab / "fingerprints.json").read_bytes()
    assert attest(lab, LAYERS, check=True) == 0 and capsys.readouterr().out.count("as recorded") == 2
    from common.search import mcts

    monkeypatch.setattr(mcts, "best_index", lambda scores, ties=None: len(scores) - 1)
    assert attest(lab, LAYERS, check=True) == 1
    printed = capsys.readouterr().out
    assert "OTHER than recorded" in printed and "values moved" in printed and "rollouts" in printed
    assert (lab / "fingerprints.json").read_bytes() == before


def test_a_changed_probe_records_its_values_anew_under_the_same_behaviour(lab, capsys):
    attest(lab, ["rollouts"], check=False)
    key = unit(lab).key
    edit(lab, "common/probes/game.py", "class Spelling:", "SPARE = 1\n\n\nclass Spelling:")
    assert attest(lab, ["rollouts"], check=True) == 1 and "the probe has changed" in capsys.readouterr().out
    assert attest(lab, ["rollouts"], check=False) == 0 and "recorded anew" in capsys.readouterr().out
    assert unit(lab).key == key and attest(lab, ["rollouts"], check=True) == 0


def test_an_unknown_layer_is_told(lab):
    with pytest.raises(ConfigError, match='layer: "serach" is unknown; did you mean "search"'):
        attest(lab, ["serach"], check=False)


def test_behaviours_of_no_code_and_no_table_are_forgotten(lab, monkeypatch):
    attest(lab, ["rollouts"], check=False)
    (first,) = read(lab).layers["rollouts"]
    from common.search import rollout

    right = rollout.derive
    for number, published in ((1, True), (2, False)):
        (lab / "results/toy").mkdir(parents=True, exist_ok=True)
        (lab / "results/toy/source.json").write_text(json.dumps({"layers": {"rollouts": first if published else "another"}}))
        edit(lab, PLAY, "def _cut(", f"SPARE = {number}\n\n\ndef _cut(")
        monkeypatch.setattr(rollout, "derive", lambda *parts, number=number: right(*parts, number))
        attest(lab, ["rollouts"], check=False)
        kept = read(lab).layers["rollouts"]
        assert (first in kept) == published and len(kept) == (2 if published else 1)


# -- units that were finished before ----------------------------------------------------------------------


def test_a_unit_that_was_finished_by_unattested_code_stays_finished(lab, capsys):
    old = finish(lab)
    assert attest(lab, LAYERS, check=False) == 0
    new = unit(lab)
    assert new.key != old.key and is_finished(lab, new) and not unit_path(lab, old).exists()
    assert "1 finished unit in runs/ has another key now and stays" in capsys.readouterr().out
    kept = json.loads((unit_path(lab, new) / "unit.json").read_text())
    assert kept["layers"] == new.layers and UnitSpec(**kept).key == new.key


def test_a_base_model_that_was_trained_by_unattested_code_stays_kept(lab, monkeypatch):
    monkeypatch.setattr(adopting, "ENV_IDS", ("toy-v1",))
    monkeypatch.setattr(inputs, "settings_for", lambda *_: settings_for("shop-v1", "cpu"))  # there is no row of the toy's
    key = inputs.base_key(lab, "toy-v1")
    (lab / "runs/base" / f"toy-v1-{key}").mkdir(parents=True)
    assert attest(lab, ["rollouts"], check=False) == 0
    assert [path.name for path in (lab / "runs/base").iterdir()] == [f"toy-v1-{inputs.base_key(lab, 'toy-v1')}"] != [
        f"toy-v1-{key}"]


def test_a_unit_from_before_layers_is_adopted_by_what_a_table_of_its_code_says(lab):
    wanted = finish(lab)
    write_metrics(lab / "results/toy/metrics.jsonl", Run.open(lab, wanted).rows())
    record(lab, plan(lab, "toy", seeds=(0,), profile="cpu"), lab / "results/toy/metrics.jsonl")
    folder = unit_path(lab, wanted)
    before = {name: value for name, value in asdict(wanted).items() if name not in ("room", "layers", "pins", "digests")}
    old = replace(wanted, room="", layers={}, pins="", digests={})
    (folder / "unit.json").write_text(json.dumps(before))
    folder.rename(folder.with_name(old.key))
    assert not is_finished(lab, unit(lab))
    identities = Identities(lab)
    assert adopting.adopt(lab, identities, {}) == ["1 finished unit in runs/ has another key now and stays"]
    assert is_finished(lab, unit(lab))
    unknown = replace(old, code="f" * 64)
    assert adopting.current(lab, unknown, identities.prints) == unknown  # no table tells of this code


# -- papers ------------------------------------------------------------------------------------------------


@pytest.fixture
def refactored(lab) -> tuple[Path, Path]:
    """A laboratory whose method was rewritten and reaches another layer now, and the run store of the code before, in which
    two units are finished."""
    attest(lab, ["rollouts"], check=False)
    units = [finish(lab, seed, value=float(seed)) for seed in (0, 1)]
    table = lab / "results/toy/metrics.jsonl"
    write_metrics(table, [row for one in units for row in Run.open(lab, one).rows()])
    record(lab, plan(lab, "toy", seeds=(0, 1), profile="cpu"), table)
    store = lab.parent / "before"
    shutil.move(lab / "runs", store)
    edit(lab, "papers/toy/method.py", "    total = 0\n", "    total = int()\n")
    (lab / "common/learn/weights.py").write_text(
        '"""A file that no probe covers."""\n\nimport math\n\n\ndef reward_weight(reward, tau):\n    return math.exp(reward / tau)\n')
    edit(lab, "papers/toy/method.py", "import time\n", "import time\nfrom common.learn.weights import reward_weight\n")
    return lab, store


def state(lab: Path):
    return table_state(lab, lab / "results/toy/metrics.jsonl", "toy", "toy-v1", "cpu")


def test_a_refactoring_that_gives_the_same_rows_keeps_its_results(refactored, capsys):
    lab, store = refactored
    other = plan(lab, "toy", seeds=(0,), profile="cpu", grid=[{"steps": 7}])[0].unit
    assert _command(lab, other) == "python -m common sweep --paper toy --envs toy-v1 --seeds 0 --profile cpu --grid steps=7"
    assert state(lab).changed == ("code of the paper's own folder", "common/learn/weights.py")
    with pytest.raises(ConfigError, match="is missing: toy toy-v1 seed 0 cpu was not computed by the present code; run: python -m common run "
                                          "--paper toy --envs toy-v1 --seeds 0 --profile cpu"):
        attest_paper(lab, "toy", store)
    for seed in (0, 1):
        finish(lab, seed, value=float(seed))
    printed = attest_paper(lab, "toy", store)
    assert "all rows of 2 units are equal (toy toy-v1 seed 0 cpu, toy toy-v1 seed 1 cpu)" in printed
    assert "2 finished units in runs/ have another key now and stay" in printed
    keys = {path.name for path in (store / "toy").iterdir()}
    assert {unit(lab, seed).key for seed in (0, 1)} == keys == {path.name for path in (lab / "runs/toy").iterdir()}
    assert state(lab).kind == "attested" and "its own code gave the rows of 2 units" in str(state(lab))
    [(room, step)] = read(lab).papers["toy"].items()
    assert room == unit(lab).digests["room"] != step["same_as"] == unit(lab).room
    assert list(step["with"]) == ["file:common/learn/weights.py"] and step["was"] == {} and len(step["units"]) == 2
    assert "all rows of 2 units are equal" in attest_paper(lab, "toy", store)  # once more is no harm
    edit(lab, "common/learn/weights.py", "math.exp(reward / tau)", "math.exp(2 * reward / tau)")
    assert state(lab).stale  # what the refactoring brought in behaves otherwise than in the proof


def test_units_of_the_present_code_prove_nothing(lab):
    finish(lab)
    shutil.copytree(lab / "runs", lab.parent / "before")
    with pytest.raises(ConfigError, match="were computed by the present code; nothing is to be proven"):
        attest_paper(lab, "toy", lab.parent / "before")


def test_a_unit_of_the_earlier_code_is_not_taken_for_one_of_the_present(refactored):
    lab, store = refactored
    [finish(lab, seed, value=float(seed)) for seed in (0, 1)]
    attest_paper(lab, "toy", store)
    shutil.rmtree(lab / "runs")
    shutil.copytree(store, lab / "runs")  # whose keys are those of the present code now
    with pytest.raises(ConfigError, match="was computed by other code of toy than the present one"):
        attest_paper(lab, "toy", store)


def test_a_second_refactoring_goes_on_from_the_first(refactored):
    lab, store = refactored
    [finish(lab, seed, value=float(seed)) for seed in (0, 1)]
    attest_paper(lab, "toy", store)
    first = unit(lab)
    shutil.rmtree(store)
    shutil.move(lab / "runs", store)
    edit(lab, "papers/toy/method.py", "    total = int()\n", "    total = 0 * 1\n")
    assert unit(lab).room != first.room
    finish(lab, 0, value=0.0), finish(lab, 1, value=1.0)
    attest_paper(lab, "toy", store)
    assert unit(lab).key == first.key and state(lab).kind == "attested"


def test_other_rows_prove_nothing(refactored):
    lab, store = refactored
    finish(lab, 0, value=0.0), finish(lab, 1, value=1.5)
    before = (lab / "fingerprints.json").read_bytes()
    with pytest.raises(ConfigError, match="toy toy-v1 seed 1 cpu: the rows of .* differ, so the present code gives other results"):
        attest_paper(lab, "toy", store)
    assert (lab / "fingerprints.json").read_bytes() == before and state(lab).stale


def test_renamed_parameters_stand_for_those_of_the_published_table(refactored):
    lab, store = refactored
    edit(lab, "papers/toy/method.py", "    pause: float\n", "    wait: float\n")
    edit(lab, "papers/toy/method.py", "unit.params.pause", "unit.params.wait")
    edit(lab, "papers/toy/params.yaml", "  pause:", "  wait:")
    assert "parameters" in state(lab).changed
    with pytest.raises(ConfigError, match="is missing: toy toy-v1 seed 0 cpu"):
        attest_paper(lab, "toy", store)
    [finish(lab, seed, value=float(seed)) for seed in (0, 1)]
    assert "all rows of 2 units are equal" in attest_paper(lab, "toy", store)
    assert state(lab).kind == "attested"
    shutil.rmtree(store)
    shutil.move(lab / "runs", store)
    edit(lab, "common/learn/weights.py", "math.exp(reward / tau)", "math.exp(1 * reward / tau)")
    [finish(lab, seed, value=float(seed)) for seed in (0, 1)]
    attest_paper(lab, "toy", store)  # of the same method: what was renamed before stays so
    assert state(lab).kind == "attested"
    edit(lab, "papers/toy/params.yaml", "wait: {default: 0.0", "wait: {default: 0.001")
    assert state(lab).changed == ("parameters",)  # another value was not proven


def test_a_store_without_the_paper_or_of_unknown_code_is_told(refactored):
    lab, store = refactored
    with pytest.raises(ConfigError, match="holds no finished unit of toy"):
        attest_paper(lab, "toy", lab / "nowhere")
    folder = next((store / "toy").iterdir())
    content = json.loads((folder / "unit.json").read_text())
    (folder / "unit.json").write_text(json.dumps({name: content[name] for name in content.keys() - {"room", "layers", "pins", "digests"}}
                                                 | {"code": "0" * 64}))
    with pytest.raises(ConfigError, match="was computed by code that no results/toy/source.json names"):
        attest_paper(lab, "toy", store)


@pytest.mark.parametrize(("options", "message"), [
    (["--paper", "toy"], "--paper and --against belong together"),
    (["--paper", "toy", "--against", "x", "--check"], "--check is given beside --paper"),
    (["search", "--paper", "toy", "--against", "x"], "search is given beside --paper"),
    (["--paper", "tooy", "--against", "x"], 'did you mean "toy"'),
])  # fmt: skip
def test_wrong_options_are_told_in_a_sentence(lab, run_in, options, message):
    done = run_in(lab, "attest", *options)
    assert done.returncode == 2 and message in done.stdout and len(done.stdout.splitlines()) == 1
