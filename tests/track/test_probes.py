"""The probes: recorded values are what they return, they run what they cover, and a changed constant moves them."""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from common.sweep.attest import known_layers
from common.track.code import Modules
from common.track.fingerprints import differences, read
from common.track.layers import PROBES, covered
from common.track.processor import model
from tests.track.entered import run

ROOT = Path(__file__).resolve().parents[2]
LAYERS = known_layers()
NOT_RUN = {
    "common/base.py": {"imitated"},  # of environments that demonstrate dialogues; the probe's does not
    "common/envs/versions/countdown_v2.py": {"CountdownV2.demonstrations"},  # what its base models are shown: their weights are in keys
    "common/envs/versions/countdown_v3.py": {"CountdownV3.demonstrations"},  # the same
    "common/envs/versions/sorting_v1.py": {"SortingEnv.demonstrations"},  # the same
    "common/envs/versions/household_v1.py": {"HouseholdEnv.demonstrations", "HouseholdEnv.visitor",  # the same
                                             "facts"},  # WKM's task knowledge is made of them: its room's probe learns from it
    "common/envs/versions/countdown_worked_v1.py": {"CountdownWorkedEnv.demonstrations"},  # the same
    "common/envs/versions/countdown_worked_roles_v1.py": {"CountdownWorkedRolesEnv.demonstrations", "CountdownWorkedRolesEnv._demonstrated",
                                                          "CountdownWorkedRolesEnv._to_judge"},  # the same
    "common/envs/answers.py": {"AnswerEnv.start", "AnswerEnv.question", "AnswerEnv.score"},  # every environment has its own
    "common/envs/build.py": {"build_all"},  # one after the other
    "common/envs/contract.py": {"check_env"},  # what tests ask of an environment
    "common/envs/latex_answer.py": {"same_answer", "_balanced",  # no environment asks
                                    "_is_unit", "_list", "_matrix", "_takes_unit"},  # forms of answers that the probe's rows lack
    "common/envs/latex_expression.py": {"_grouped", "_has", "_unsigned", "_with_fraction"},  # the same; tests/public_reports has them
    "common/envs/shop/webshop.py": {"_missing"},  # an error
    "common/envs/textworld/engine.py": {"Engine.close", "Engine.gold"},  # the package's own way; the end of the process
    "common/envs/textworld/game.py": {"TextWorldEnv.gold", "TextWorldEnv.score"},  # the same; parts of a recipe, which no reward counts
    "common/envs/textworld/panels.py": {"choose", "layout_of"},  # how seeds were chosen, once
    "common/envs/textworld/world.py": {"World.layout", "World.leads_to"},  # the same; states that another process met
    "common/envs/textworld/cooking.py": {"CookingWorld.layout"},  # the same
    "common/envs/textworld/home.py": {"choose", "HomeWorld.layout", "HomeWorld.leads_to",  # the same
                                      "HomeEnv.demonstrations", "HomeEnv.visitor"},  # what base models are shown: their weights are in keys
    "common/envs/user_rows.py": {"_hub", "_cut", "_files", "_object", "_shown"},  # the network, errors
    "common/lab.py": {"Lab.make_env", "Lab.panel", "run"},  # the probe has tasks and a folder of its own
    "common/learn/losses.py": {"value_mse"},  # of a trainer that no paper uses
    "common/learn/monitor.py": {"MonitoredTrainer._join_ranks",  # several processes
                                "MonitoredTrainer.get_train_dataloader.<locals>.collate",
                                "MonitoredTrainer._require_finite.<locals>.batch",  # a training that failed
                                "MonitoredTrainer._save_checkpoint", "MonitoredTrainer.identity"},  # checkpoints, which units do not write
    "common/lm/engine.py": {"Engine._not_finite", "Engine._why_not"},  # sentences of errors
    "common/lm/native.py": {"instructions"},  # a word for records
    "common/lm/device.py": {"has_bf16"}, "common/lm/models.py": {"_nf4", "_check_blocks"},  # a GPU; 4-bit weights
    "common/search/draw.py": {"draw_tree", "_label", "_plain", "_rows", "_depth_first"},  # a figure
}  # fmt: skip
"""Functions of covered files that no probe enters, with the reason: what a fingerprint cannot see (``docs/identity.md``)."""

TRAINED_ON = {"harness": "Intel(R) Xeon(R) Processor, family 6, model 207"}
"""Layers whose probe trains a policy and samples from it, with the processor that recorded its values: on another one last bits differ, and
a few updates later words (common/track/processor.py)."""


def defined(path: Path) -> set[str]:
    """Qualified names of a file's functions, those of protocols aside."""
    found: set[str] = set()

    def walk(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(prefix + child.name)
                walk(child, f"{prefix}{child.name}.<locals>.")
            elif isinstance(child, ast.ClassDef):
                if not any(isinstance(base, ast.Name) and base.id == "Protocol" for base in child.bases):
                    walk(child, f"{prefix}{child.name}.")
            else:
                walk(child, prefix)

    walk(ast.parse(path.read_text(encoding="utf-8")), "")
    return found


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """Layer → (its values, the functions that its probe entered), for all layers that can run here. In a process of its own,
    where nothing that is remembered was asked for before."""
    out = tmp_path_factory.mktemp("probes") / "entered.json"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    subprocess.run([sys.executable, "-m", "tests.track.entered", str(out)], cwd=ROOT, env=environment, check=True)
    return {name: (values, {tuple(one) for one in entered}) for name, (values, entered) in json.loads(out.read_text()).items()}


def test_every_layer_is_attested_and_behaves_as_recorded(seen):
    modules, prints = Modules(ROOT), read(ROOT)
    moved = {}
    for name, (values, _) in seen.items():
        found = covered(modules, LAYERS[name])
        known = prints.known(name, found.digest)
        assert known, f"common/ was changed where {name} is probed; run: python -m common attest"
        assert prints.layers[name][known].probe == found.probe, f"the probe of {name} was changed; run: python -m common attest"
        moved[name] = differences(prints.layers[name][known].values, values)
        assert prints.layers[name][known].values.keys() == values.keys()
        if moved[name] and TRAINED_ON.get(name, model()) != model():
            warnings.warn(f"{name}: {len(moved[name])} values differ from those recorded on {TRAINED_ON[name]}; this is {model()}", stacklevel=1)
            moved[name] = {}
    assert moved == dict.fromkeys(seen, {})


def test_probes_run_what_they_cover(seen):
    modules, missed = Modules(ROOT), {}
    for name in seen:
        for file in covered(modules, LAYERS[name]).files:
            if file.startswith(LAYERS[name].rooms) and file.endswith(".py"):
                entered = {what for where, what in seen[name][1] if where == str(ROOT / file)}
                missed[file] = missed.get(file, defined(ROOT / file)) - entered
    unlisted = {file: names - NOT_RUN.get(file, set()) for file, names in missed.items()}
    assert not any(unlisted.values()), {file: names for file, names in unlisted.items() if names}
    assert sum(len(missed.get(file, ())) for file in NOT_RUN) > len(NOT_RUN)  # the list is not of functions that are run after all


def test_the_file_stays_small(seen):
    assert (ROOT / "fingerprints.json").stat().st_size < 150_000
    assert all(len(values) >= 5 for values, _ in seen.values())


def test_papers_and_layers_import_no_probe():
    for path in [*ROOT.glob("papers/**/*.py"), *ROOT.glob("common/**/*.py")]:
        text, name = path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()
        if not name.startswith(PROBES) and name != "common/sweep/attest.py":
            assert "common.probes" not in text.replace(":mod:`common.probes`", ""), name


def scaled(function, by: float):
    return lambda *args, **kwargs: function(*args, **kwargs) * by


CHANGES = {
    "a preference loss": ("learning", "common.learn.policy.dpo_losses", lambda old: scaled(old, 1.01), "dpo"),
    "a supervised loss": ("learning", "common.learn.policy.sft_loss", lambda old: scaled(old, 1.01), "sft"),
    "a policy-gradient loss": ("gradient", "common.learn.policy_gradient.policy_gradient_loss", lambda old: scaled(old, 1.01), "gradient"),
    "a baseline": ("gradient", "common.probes.gradient.leave_one_out", lambda old: scaled(old, 1.01), "advantage"),
    "the sampler": ("engine", "common.lm.decode.choose", lambda old: lambda log_p, u, t, p: old(log_p, 1 - u, t, p), "torch"),
    "the uniforms": ("engine", "common.lm.engine.generator", lambda old: lambda *parts: old(*parts, "other"), "native"),
    "a mask of the padded pass": ("engine", "common.lm.predict._padded", lambda old: scaled(old, 1.001), "predict.padded"),
    "the exploration of a search": ("search", "common.search.mcts.child_score",
                                    lambda old: lambda *a, c, unvisited: old(*a, c=1.3 * c, unvisited=unvisited), "basic"),
    "a backup": ("search", "common.search.mcts.backup", lambda old: lambda path, r, g, s: old(path, r, 0.999 * g, s), "basic.value"),
    "who is asked in a rollout": ("rollouts", "common.search.rollout.derive", lambda old: lambda *parts: old(*parts, "other"), "episodes"),
    "how alike two pages are": ("foresight", "common.evaluate.foresight.token_accuracy", lambda old: scaled(old, 0.9), "fidelity"),
    "the seed of a batch's order": ("harness", "common.lab.derive", lambda old: lambda *parts: old(*parts, "other"), "weights"),
    "a measure of episodes": ("evaluation", "common.evaluate.rollouts.fmean", lambda old: lambda some: 0.5, "summary"),
    "a measure of answers": ("correction", "common.evaluate.correction.relative_score", lambda old: lambda a, b: 0.5, "correction"),
    "levels": ("decompose", "common.evaluate.decompose.relative_score", lambda old: lambda a, b: 0.5, "levels"),
    "a reading of pages": ("wrappers", "common.probes.wrappers.outcome", lambda old: lambda goal, page: "fits", "pages"),
    "demonstrations": ("base", "common.base.CRITIC_SHARE", lambda old: 0.9, "examples"),
    "an environment's reward": ("env:arithmetic-v1", "common.envs.versions.arithmetic_v1.ArithmeticEnv.score",
                                lambda old: scaled(old, 0.9), "test.reward"),
    "a shop's matching": ("env:webshop-1k", "common.envs.shop.scoring.option_matches", lambda old: lambda *a: True, "test.episodes"),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_moves_the_fingerprint_of_its_layer(what, monkeypatch, seen):
    layer, target, change, begins = CHANGES[what]
    place, _, name = target.rpartition(".")
    try:
        owner = importlib.import_module(place)
    except ModuleNotFoundError:  # a class in a module
        owner = getattr(importlib.import_module(place.rpartition(".")[0]), place.rpartition(".")[2])
    monkeypatch.setattr(owner, name, change(getattr(owner, name)))
    moved = differences(seen[layer][0], run(layer))
    assert any(one.startswith(begins) for one in moved), moved
