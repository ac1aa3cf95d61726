"""A search over settings: Optuna's tree-structured Parzen estimator (TPE, Bergstra et al. 2011) proposes them.

    with Search(root, asked, workers=2) as search:
        execute(root, search.more([]), workers=2, …, more=search.more)
        search.evaluated        # settings with their mean over seeds and environments

A setting is one trial, and its units are ordinary ones that are evaluated on a tuning panel only: test panels never choose
settings. ``workers`` settings are proposed at once, and the next ones when all of them are evaluated, each from a seed of
its own; so the same command proposes the same settings, interrupted or not. The study is an sqlite file below
``runs/sweeps``, which Optuna's own tools can open.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import sqlite3
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common.config import ConfigError, field_types, flat, hint, load_lab, load_spec, resolve
from common.files import StoreError, storage
from common.rng import derive
from common.sweep.design import Sweep, check_axes, fitted
from common.sweep.execute import UnitResult
from common.sweep.plan import Planned, default_envs, parse_seeds, plan, read_json, totals
from common.sweep.unit import params_class
from common.track.mlflow_store import sqlite_uri
from common.track.store import finished_rows, unit_path

TUNING = ("validation", "train")
"""Panels that may choose a setting. All others are for judging claims, or hold no tasks."""

STARTUP = 4
"""Settings drawn at random before the estimator has anything to go by."""

TRIES = 20
"""Proposals in a row that were all made before, after which the search counts its settings as exhausted."""


@dataclass(frozen=True)
class Evaluated:
    """An evaluated setting: the mean of its units' values, and its units, which hold the tuning panel among their overrides."""

    setting: dict[str, Any]
    value: float
    planned: tuple[Planned, ...]


def panel_override(root: Path, paper: str, panel: str) -> dict[str, Any]:
    """The override with which the paper evaluates on ``panel`` alone. ConfigError for a panel that is not for tuning."""
    if panel not in TUNING:
        judged = "a test panel" if panel.startswith("test") else "no tuning panel"
        raise ConfigError(f'panel is "{panel}", {judged}, but settings are chosen where no claim is judged; '
                          f"use {' or '.join(TUNING)}")
    kinds = field_types(params_class(root, load_spec(root, paper)))
    for name, value in (("panels", [panel]), ("panel", panel)):
        if name in kinds:
            return {name: value}
    raise ConfigError(f"{paper} has no parameter panels, so its units cannot be evaluated on the {panel} panel alone; "
                      "a search needs one")


class Search:
    """See the module docstring. Raises ConfigError before anything is written, StoreError when another process runs it."""

    def __init__(self, root: Path, asked: Sweep, *, variant: str, workers: int) -> None:
        self.asked, self.variant, self.workers, self.root = asked, variant, workers, root
        spec = load_spec(root, asked.paper)
        params = params_class(root, spec)
        self.ranges = fitted(asked.ranges, field_types(params))
        check_axes(asked.grid, self.ranges, asked.points)
        if not isinstance(asked.points, int) or asked.points < 1:
            raise ConfigError(f"points is {asked.points!r} but a search needs the number of settings to try; give for example "
                              "--points 12")
        self._names = [*(one.name for one in self.ranges), *asked.grid]
        self._fixed = panel_override(root, asked.paper, asked.panel)
        for name in self._fixed.keys() & {*self._names}:
            raise ConfigError(f'the parameter "{name}" is swept, but a search sets it to the panel that it is '
                              "evaluated on; leave it out")
        self.envs = asked.envs or default_envs(spec)
        for env in self.envs:
            files = read_json(root / "data" / env / "manifest.json").get("files", {})
            if files and f"{asked.panel}.jsonl" not in files:
                known = [name for name in TUNING if f"{name}.jsonl" in files]
                raise ConfigError(f'panel: {env} has no panel "{asked.panel}"; {hint(asked.panel, known)}')
        self.seeds, self.profile = parse_seeds(asked.seeds), asked.profile or load_lab(root).profile
        # Checked before anything starts: both ends of each range and each value of the grid.
        columns = {one.name: [one.low, one.high] for one in self.ranges} | dict(asked.grid)
        self.corners = self.plan([{name: values[min(row, len(values) - 1)] for name, values in columns.items()}
                                  for row in range(max(map(len, columns.values())))])
        # The preset is tried first, so that the best is seen beside it; None where environments differ or it is not in the space.
        presets = [flat(resolve(params, spec, self.profile, env)) for env in self.envs]
        start = self._in_space({name: presets[0][name] for name in self._names
                                if all(one[name] == presets[0][name] for one in presets)})
        self.preset = self._setting(start) if start else None
        # Everything that a value depends on; not points and workers, so that a search can be continued with others.
        what = [asked.paper, self.envs, self.profile, self.seeds, asked.metric, variant, asked.panel, asked.minimise,
                asked.sample, [(one.name, one.low, one.high, one.log) for one in self.ranges], dict(asked.grid),
                [one.unit.key for one in self.corners]]
        digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]
        self.folder = root / "runs" / "sweeps" / f"{asked.paper}-search-{digest}"
        self._running: dict[int, dict[str, Any]] = {}  # trial number → setting
        self._failed: set[str] = set()

    def plan(self, settings: Sequence[dict[str, Any]]) -> list[Planned]:
        """The units of ``settings``, evaluated on the tuning panel."""
        return plan(self.root, self.asked.paper, seeds=self.seeds, profile=self.profile, envs=self.envs,
                    grid=[one | self._fixed for one in settings])

    def cost(self) -> str:
        """What the search will do, and what that costs at most, in one line."""
        known, units = self._known(), len(self.seeds) * len(self.envs)
        left = max(self.asked.points - known, 0)
        minutes, disk = totals([replace(one, finished=False) for one in self.corners[:units]] * left, self.workers)
        price = "an unknown time (none was run before)" if minutes is None else f"about {minutes:.1f} min, {disk:.0f} MB"
        goal = f"{'lowest' if self.asked.minimise else 'highest'} {self.asked.metric} of {self.variant} on {self.asked.panel}"
        where = "" if len(self.envs) == 1 else f" over {', '.join(self.envs)}"
        return (f"search for the {goal}{where}: {self.asked.points} settings, {known} evaluated before; {left} x {units} units "
                f"to run at most: {price if left else 'nothing to run'} with {self.workers} worker(s)")

    def _known(self) -> int:
        """Settings evaluated by earlier starts, without Optuna, so that the cost is known at once."""
        if not (self.folder / "study.db").is_file():
            return 0
        with contextlib.closing(sqlite3.connect(f"file:{self.folder / 'study.db'}?mode=ro", uri=True)) as database:
            return database.execute("SELECT count(*) FROM trials WHERE state = 'COMPLETE'").fetchone()[0]

    # -- the study -----------------------------------------------------------------------------------------------

    def __enter__(self) -> Search:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with storage(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.folder / "lock", "w", encoding="utf-8")  # released when this process ends
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise StoreError(f"{self.folder.relative_to(self.root)}: this search is being run by another process; "
                             "wait for it or end it, then run again") from None
        self._states = optuna.trial.TrialState
        self._study = optuna.create_study(
            storage=sqlite_uri((self.folder / "study.db").resolve()), study_name="search", load_if_exists=True,
            direction="minimize" if self.asked.minimise else "maximize")
        self._put_back()
        if not self._study.trials and self.preset:
            self._study.enqueue_trial(self._in_space(self.preset))
        return self

    def __exit__(self, *exception: object) -> None:
        self._put_back()
        self._lock.close()

    def _put_back(self) -> None:
        """Nothing stays RUNNING: what was interrupted, and what failed, is asked again by the next start, in its order."""
        for trial in self._trials("RUNNING"):
            self._study.tell(trial.number, state=self._states.FAIL)
        settled = {_text(self._setting(trial.params)) for trial in self._trials("COMPLETE")}
        settled |= {_text(self._setting(trial.system_attrs["fixed_params"])) for trial in self._trials("WAITING")}
        for trial in self._trials("FAIL"):
            setting = _text(self._setting(trial.params))
            if "again" not in trial.user_attrs and setting not in settled:
                settled.add(setting)
                self._study.enqueue_trial(trial.params)

    def _trials(self, state: str) -> list[Any]:
        return self._study.get_trials(deepcopy=False, states=[self._states[state]])

    @property
    def evaluated(self) -> list[Evaluated]:
        """The settings that have a value, in the order of their trials."""
        evaluated = [(self._setting(trial.params), trial.value) for trial in self._trials("COMPLETE")][: self.asked.points]
        planned = self.plan([setting for setting, _ in evaluated]) if evaluated else []
        return [Evaluated(setting, value, tuple(one for one in planned if one.overrides == setting | self._fixed))
                for setting, value in evaluated]

    def more(self, results: Sequence[UnitResult]) -> list[Planned]:
        """Tell the study how its trials ended, and plan the units of the next ones; [] when the search is over.

        ConfigError when the units have no row of the metric.
        """
        for number, setting in self._running.items():
            mine = [one for one in results if one.planned.overrides == setting | self._fixed]
            if any(one.state == "failed" for one in mine):
                self._failed.add(_text(setting))
                self._study.tell(number, state=self._states.FAIL)
            else:
                self._study.tell(number, statistics.mean(self._value(one.planned) for one in mine))
        self._running = {}
        tried = {_text(self._setting(trial.params)) for trial in self._trials("COMPLETE")} | self._failed
        for _ in range(min(self.asked.points - len(tried), self.workers)):
            if (found := self._ask(tried)) is None:
                break
            self._running[found[0]] = found[1]
            tried.add(_text(found[1]))
        return self.plan(list(self._running.values())) if self._running else []

    def _ask(self, tried: set[str]) -> tuple[int, dict[str, Any]] | None:
        """A trial whose setting is not among ``tried``; None when none was proposed."""
        from optuna.samplers import TPESampler

        for attempt in range(TRIES):
            seed = derive(self.asked.sample, "tpe", len(tried), attempt) % 2**32
            self._study.sampler = TPESampler(n_startup_trials=STARTUP, seed=seed)
            trial = self._study.ask(self._space())
            setting = self._setting(trial.params)
            if _text(setting) not in tried:
                return trial.number, setting
            trial.set_user_attr("again", True)
            self._study.tell(trial, state=self._states.FAIL)
        return None

    def _value(self, planned: Planned) -> float:
        rows = finished_rows(unit_path(self.root, planned.unit))
        panel = f"{planned.env}/{self.asked.panel}"
        for row in rows:
            if (row.metric, row.variant, row.panel) == (self.asked.metric, self.variant, panel):
                return row.value
        variants = {row.variant for row in rows if (row.metric, row.panel) == (self.asked.metric, panel)}
        if variants:
            raise ConfigError(f'variant "{self.variant}" has no {self.asked.metric} on {panel}; {hint(self.variant, variants)}; '
                              "choose by --variant")
        metrics = {row.metric for row in rows if row.panel == panel}
        raise ConfigError(f'search: no variant has a metric "{self.asked.metric}" on {panel}; {hint(self.asked.metric, metrics)}')

    # -- settings as Optuna has them -----------------------------------------------------------------------------

    def _space(self) -> dict[str, Any]:
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        space: dict[str, Any] = {one.name: (IntDistribution if one.whole else FloatDistribution)(one.low, one.high, log=one.log)
                                 for one in self.ranges}
        return space | {name: CategoricalDistribution([json.dumps(value) for value in values])
                        for name, values in self.asked.grid.items()}

    def _setting(self, params: dict[str, Any]) -> dict[str, Any]:
        """Optuna's values as this paper's: few digits, and what the texts of a grid stand for."""
        return {one.name: one.rounded(params[one.name]) for one in self.ranges} | {
            name: json.loads(params[name]) for name in self.asked.grid}

    def _in_space(self, setting: dict[str, Any]) -> dict[str, Any]:
        """A whole setting as Optuna has it, {} when it is not in the space."""
        within = {name: json.dumps(value) if name in self.asked.grid else value for name, value in setting.items()}
        inside = within.keys() == {*self._names} and all(one.low <= within[one.name] <= one.high for one in self.ranges) and all(
            within[name] in map(json.dumps, values) for name, values in self.asked.grid.items())
        return within if inside else {}


def _text(setting: dict[str, Any]) -> str:
    return json.dumps(setting, sort_keys=True)
