"""The harness that runs every paper: tasks, sampling, training stages, evaluation and metric rows of one unit.

``papers/<id>/method.py`` supplies

    class Params(ModelParams)                     its own parameters
    def variants(p) -> list[Variant]              the training conditions, in order
    def train(lab, variant) -> Trained            the algorithm, read from top to bottom

and, only where the defaults below do not do,

    def evaluate(lab, variant, trained) -> list[Measured]     else Lab.evaluate: the test panels, sampled and greedy
    def environment(lab) -> Env                               else the unit's environment as it is
    def compare(lab, results) -> list[Result]                 metrics that need several variants at once

:func:`run` is the unit: it trains and evaluates every variant in order, in stages that are computed once and read
back after an interruption, and writes the metric rows. Random numbers are derived from (seed, names of the use, item),
never from a variant's name, so that variants meet the same tasks and the same noise and comparisons are paired.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from common.config import ConfigError, UnitParams, hint
from common.envs import load_panel, make
from common.envs.answers import AnswerEnv
from common.envs.contract import Env
from common.evaluate.correction import Attempts, attempts_of, correction
from common.evaluate.correction import turn_records as answer_records
from common.evaluate.dialogues import dialogues
from common.evaluate.rollouts import evaluate, records, summarise
from common.evaluate.votes import stacked
from common.learn.policy import dpo, sft
from common.learn.policy_gradient import Dialogue, PolicyGradientSettings, policy_gradient
from common.learn.settings import DPOSettings, TrainSettings
from common.lm.adapters import add_adapters, load_adapters, merge_adapters, save_adapters
from common.lm.device import on_device
from common.lm.engine import Engine
from common.lm.models import load_model, save_model
from common.lm.policy import LMPolicy
from common.policy import Policy
from common.rng import derive, generator
from common.rows import Label, MetricRow, cost_of
from common.search.rollout import rollout
from common.track.events import training_metric
from common.track.lines import write_lines
from common.track.store import Unit
from common.types import Cost, Task, Trajectory

KEPT_TASKS = 60
"""Tasks of the first panel whose sampled episodes are kept as an artifact, to be read by people."""


@dataclass(frozen=True)
class Variant:
    """One training condition: the method, a baseline or an ablation. Papers add fields of their own."""

    name: str


@dataclass(frozen=True)
class Trained:
    """Trained weights and their total cost. ``stage`` holds the weights; "" is the base model.

    ``found`` are numbers that the training came across, finite and JSON-able.
    """

    stage: str = ""
    cost: Cost = field(default_factory=Cost)
    found: Mapping[str, Any] = field(default_factory=dict)


BASE = Trained()
"""The base model, which costs nothing."""


@dataclass(frozen=True)
class Collected:
    """Rows to learn from: examples, preference pairs, or the dialogues of one policy-gradient update.

    ``cost`` is what sampling them cost; ``found`` are numbers to log beside the training's own.
    """

    rows: Sequence[Any]
    cost: Cost = field(default_factory=Cost)
    found: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """Metrics on one panel, each the mean over ``n`` items (tasks, pairs, …), by one way of acting.

    ``acting`` names a way of acting at test time other than sampling one answer ("vote", "mcts"): rows then belong to
    ``<variant>+<acting>``. ``cost`` is what acting cost beyond the variant's training, where that is compared.
    """

    panel: str
    metrics: Mapping[str, float]
    n: int
    acting: str = ""
    cost: Cost = field(default_factory=Cost)


@dataclass(frozen=True)
class Result:
    """A variant's name, what its weights cost, and everything that was measured of it."""

    name: str
    cost: Cost
    measured: Sequence[Measured]


def spent(engine: Engine, turns: int) -> Cost:
    """Cost of the calls of ``engine`` since the last call of this function, which resets its counter, and of the ``turns``
    that it sampled, each of them one environment step."""
    cost, engine.cost = engine.cost, Cost()
    return replace(cost, env_steps=turns, samples=turns)


class Lab:
    """One running unit (a training seed of a paper in an environment); everything that a paper's functions need."""

    def __init__(self, unit: Unit, method: ModuleType) -> None:
        self.unit, self.method = unit, method
        self.run, self.seed = unit.run, unit.seed
        self.p: Any = unit.params
        """The paper's ``Params``."""
        self.results: dict[str, Result] = {}
        """What was measured of the variants that come before the present one, by name."""
        self._memo: dict[Any, Any] = {}

    # -- what there is -------------------------------------------------------------------------------------------

    @cached_property
    def env(self) -> Env:
        """The environment that policies act in."""
        return self.method.environment(self) if hasattr(self.method, "environment") else self.make_env()

    def make_env(self) -> Env:
        """A new copy of the unit's environment as its module makes it."""
        return make(self.unit.env, self.unit.data)

    def panel(self, name: str) -> list[Task]:
        """All tasks of the panel ``name`` of the unit's environment."""
        return load_panel(self.unit.data, f"{self.unit.env}/{name}")

    @cached_property
    def tasks(self) -> list[Task]:
        """The training tasks in an order of this seed, the same for all variants."""
        panel = self.panel("train")
        return [panel[i] for i in generator(self.seed, "tasks").permutation(len(panel))]

    @cached_property
    def panels(self) -> dict[str, list[Task]]:
        """The panels that variants are evaluated on, whole."""
        return {name: self.panel(name) for name in self.p.panels}

    def batch(self, k: int, size: int) -> list[Task]:
        """The ``k``-th batch (from 0) of ``size`` training tasks, beginning again when all were used."""
        return [self.tasks[i % len(self.tasks)] for i in range(k * size, (k + 1) * size)]

    def once(self, name: Any, compute: Callable[[], Any]) -> Any:
        """``compute()``, once for each ``name`` in this process: what variants share and no stage holds."""
        if name not in self._memo:
            self._memo[name] = compute()
        return self._memo[name]

    # -- policies ------------------------------------------------------------------------------------------------

    def folder(self, trained: Trained) -> Path:
        """Where the weights of ``trained`` are, which are not the base's."""
        return self.run.stage_path(trained.stage)

    def engine(self, trained: Trained = BASE, part: str = "") -> Engine:
        """The weights of ``trained``; of a stage that holds several models, those of ``part``."""
        if trained.stage:
            return Engine(*on_device(*load_model(self.folder(trained) / part)))
        return Engine(*on_device(*load_model(self.unit.base, four_bit=getattr(self.p, "four_bit", False))))

    def learner(self, start: Trained = BASE) -> Engine:
        """As :meth:`engine`, ready to be trained: with adapters where they are what is trained, the same for each variant.

        Beside 4-bit weights a later phase goes on with the adapters of the one before.
        """
        rank, four_bit = getattr(self.p, "lora_rank", 0), getattr(self.p, "four_bit", False)
        engine = self.engine(BASE if four_bit else start)
        if rank:
            add_adapters(engine.model, rank, seed=derive(self.seed, "adapters"))
        if four_bit and start.stage:
            load_adapters(engine.model, self.folder(start))
        return engine

    def policy(self, engine: Engine, temperature: float = 1.0, **more: Any) -> LMPolicy:
        """A policy that writes turns of at most ``answer_tokens`` tokens."""
        return LMPolicy(engine, **({"temperature": temperature, "max_new_tokens": self.p.answer_tokens} | more))

    def keys(self, tasks: Sequence[Task], *use: str | int) -> list[int]:
        """A sampling seed for each of ``tasks``: derive(seed, *use, its place among them, its id). ``use`` names the purpose."""
        return [derive(self.seed, *use, i, task.id) for i, task in enumerate(tasks)]

    def sample(
        self, policy: Policy, tasks: Sequence[Task], *use: str | int, group: int = 1, turns: int | None = None
    ) -> tuple[list[Task], list[Trajectory]]:
        """``group`` episodes of each task, side by side; the tasks, repeated so, and their episodes in the same order.

        ``use`` names what the episodes are for, see :meth:`keys`. ``turns`` cuts them, None means the environment's own
        limit.
        """
        asked = [task for task in tasks for _ in range(group)]
        return asked, rollout(self.env, asked, policy, keys=self.keys(asked, *use), max_steps=turns)

    def attempts(
        self, policy: Policy, tasks: Sequence[Task], *use: str | int, group: int = 1, turns: int | None = None
    ) -> tuple[list[Trajectory], Attempts]:
        """As :meth:`sample`, in an environment of whole answers: the episodes, and each of their turns judged alone."""
        asked, episodes = self.sample(policy, tasks, *use, group=group, turns=turns)
        return episodes, attempts_of(self.env, asked, episodes)

    # -- training ------------------------------------------------------------------------------------------------

    def stage(self, name: str, compute: Callable[[], Any]) -> Any:
        """The JSON value of ``compute()``, computed once, also across interruptions."""
        return self.run.stage(name, compute)

    def training(
        self, name: str, learn: Callable[[Any], tuple[Cost, Mapping[str, Any]]], *, start: Trained = BASE,
        parts: Sequence[str] = (),
    ) -> Trained:
        """:meth:`weights` of a language model: ``learn`` changes the model of the engine it is given in place, and returns
        what that cost and found.

        With ``parts`` the stage holds several models: ``learn`` is given a dictionary, part → engine, each with weights
        of its own that are at first those of ``start``. Saved are the engines that the dictionary holds in the end.
        """

        def make(folder: Path) -> tuple[Cost, Mapping[str, Any]]:
            engines = {part: self.learner(start) for part in parts or ("",)}
            cost, results = learn(engines if parts else engines[""])
            for part, engine in engines.items():
                (folder / part).mkdir(exist_ok=True)
                if getattr(self.p, "four_bit", False):
                    save_adapters(engine.model, folder / part)
                save_model(merge_adapters(engine.model), engine.tokenizer, folder / part)
            return cost, results

        return self.weights(name, make, start=start)

    def weights(
        self, name: str, make: Callable[[Path], tuple[Cost, Mapping[str, Any]]], *, start: Trained = BASE
    ) -> Trained:
        """The stage ``train.<name>``: ``make`` trains, writes the weights into the folder it is given, and returns what
        that cost and found, beyond ``start``. Called again with a name that is trained, it only reads."""
        stage = f"train.{name}"

        def compute() -> dict[str, Any]:
            with self.run.stage_dir(stage) as folder:
                cost, results = make(folder)
            return {"cost": cost_of(cost), "found": dict(results)}

        done = self.run.stage(stage, compute)
        return Trained(stage, start.cost + Cost(**done["cost"]), done["found"])

    def fit(
        self, name: str, collect: Callable[[Engine], Collected], *, order: Sequence[str | int], start: Trained = BASE,
        part: int = 1, **settings: Any,
    ) -> Trained:
        """Supervised fine-tuning on the examples, or with ``beta`` DPO on the preference pairs, that ``collect`` returns.

        ``collect`` gets the policy that training starts from. ``settings`` are those of
        :class:`common.learn.settings.TrainSettings` or ``DPOSettings``, but for ``max_length``: the model's context.
        ``order`` names the seed of the batches' order; ``part`` numbers this stretch of a variant's training in its
        curves. Where nothing was collected, or ``max_steps`` is 0, the policy stays as it was, and no update is counted.
        """

        def learn(engine: Engine) -> tuple[Cost, Mapping[str, Any]]:
            data = collect(engine)
            self.log(name, 0, {f"collect/{k}": v for k, v in data.found.items()})
            if not data.rows or settings.get("max_steps") == 0:  # a policy that solves nothing leaves nothing to learn from
                return data.cost, {**data.found, "rows": 0}
            kind, how = (DPOSettings, dpo) if "beta" in settings else (TrainSettings, sft)
            chosen = kind(**({"warmup": 0.1, "max_length": engine.context} | settings))
            seed = derive(self.seed, *order) % 2**31
            stats = how(engine.model, engine.tokenizer, data.rows, chosen, seed=seed, out_dir=self.run.artifacts,
                        log=self.curve(name, part))  # fmt: skip
            return replace(data.cost, updates=data.cost.updates + stats.updates), {**data.found, "rows": len(data.rows)}

        return self.training(name, learn, start=start)

    def reinforce(
        self, name: str, collect: Callable[[Engine, int], Collected], *, lr: float, updates: int, warmup: int = 0,
        start: Trained = BASE, reference: Trained = BASE, part: int = 1,
    ) -> Trained:
        """Policy gradient: before each of ``updates`` (from 1) ``collect`` samples dialogues from the policy as it is.

        The KL of the loss is to ``reference``. The cost is the sum of what was collected.
        """

        def learn(engine: Engine) -> tuple[Cost, Mapping[str, Any]]:
            total, seen, curve = Cost(), {}, self.curve(name, part)

            def dialogues_of(update: int) -> list[Dialogue]:
                nonlocal total
                data = collect(engine, update)
                total = total + data.cost
                seen.update(data.found)
                return list(data.rows)

            settings = PolicyGradientSettings(lr=lr, updates=updates, warmup=warmup, max_length=engine.context)
            stats = policy_gradient(engine.model, self.engine(reference).model, engine.tokenizer, dialogues_of, settings,
                                    out_dir=self.run.artifacts, log=lambda update, found: curve(update, found | seen))  # fmt: skip
            return replace(total, updates=stats.updates), {}

        return self.training(name, learn, start=start)

    # -- records -------------------------------------------------------------------------------------------------

    def curve(self, name: str, part: int = 1) -> Callable[[int, Mapping[str, float]], None]:
        """A log of the training of ``name`` by update, for its curves."""
        return lambda update, found: self.log(name, update, {training_metric(part, k): v for k, v in found.items()})

    def log(self, name: str, step: int, metrics: Mapping[str, float]) -> None:
        """One event of the run: metrics of ``name`` at ``step``. "@" is not a letter of MLflow's metric names."""
        if metrics:
            self.run.log(name, step, {k.replace("@", "_"): v for k, v in metrics.items()})

    def keep(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write ``rows`` as the artifact ``<name>.jsonl``, to be looked at."""
        write_lines(self.run.artifacts / f"{name}.jsonl", rows)

    # -- evaluation ----------------------------------------------------------------------------------------------

    def evaluate(
        self, variant: Variant, trained: Trained, *, acting: Callable[[LMPolicy], Policy] = lambda policy: policy
    ) -> list[Measured]:
        """The standard evaluation: ``test.draws`` sampled episodes of each of ``test.tasks`` tasks of every panel, and one
        greedy episode of each (``greedy_*``). Sampled episodes of the first panel are kept.

        ``acting`` wraps the policy in another way to act with the same weights. With ``admission`` the base model gets
        what admission checks ask for, see :class:`common.config.UnitParams`.
        """
        engine, measured, admission = self.engine(trained), [], not trained.stage and self.p.admission
        for panel, tasks in self.panels_for(trained).items():
            tasks, metrics = tasks[: self.p.test.tasks], {}
            for prefix, temperature, draws in (("", 1.0, self.p.test.draws), ("greedy_", 0.0, 1)):
                reported, examples = self.report(tasks, acting(self.policy(engine, temperature)), draws, passes=admission and not prefix)
                metrics |= {f"{prefix}{name}": value for name, value in reported.items()}
                if panel == self.p.panels[0] and not prefix:
                    self.keep(f"{self.artifact}.{variant.name}", examples)
            measured.append(Measured(panel, metrics, len(tasks)))
        return measured

    def panels_for(self, trained: Trained) -> dict[str, list[Task]]:
        """Tasks of every panel to measure ``trained`` on: the unit's, and for the base model, with ``admission``, those that were
        demonstrated to it (``demos``)."""
        demonstrated = {"demos": self.panel("demos")} if self.p.admission and not trained.stage else {}
        return self.panels | demonstrated

    @property
    def artifact(self) -> str:
        """What kept episodes are called: ``dialogues`` of whole answers, ``rollouts`` of actions."""
        return "dialogues" if isinstance(self.env, AnswerEnv) else "rollouts"

    def report(
        self, tasks: Sequence[Task], policy: Policy, draws: int, *, passes: bool = False
    ) -> tuple[dict[str, float], list[dict]]:
        """Metrics over ``draws`` episodes of each task, and some episodes of the first draw as rows to be read. ``passes``: also
        ``pass@<draws>``, the share of tasks that one of the draws solves (in its first turn, where an episode has several)."""
        if isinstance(self.env, AnswerEnv):
            judged, episodes = dialogues(self.env, tasks, policy, seed=self.seed, draws=draws)
            metrics = correction(stacked(judged))
            if passes:
                metrics[f"pass@{draws}"] = float(np.any([one.correct[:, 0] for one in judged], axis=0).mean())
            return metrics | {"success": metrics[f"acc@{self.env.max_steps}"]}, self.readable(tasks, judged, episodes)
        drawn = [evaluate(self.env, tasks, policy, seed=derive(self.seed, draw))[1] for draw in range(draws)]
        metrics = summarise([episode for episodes in drawn for episode in episodes])
        if passes:
            metrics[f"pass@{draws}"] = float(np.any([[one.success for one in episodes] for episodes in drawn], axis=0).mean())
        return metrics, records(drawn[0][:KEPT_TASKS])

    def episodes(self, name: str, policy: Callable[[], Policy], *, kept: int = KEPT_TASKS) -> dict[str, list[Trajectory]]:
        """Panel → one episode of each of its first ``test.tasks`` tasks by a new ``policy()``; ``kept`` of the first panel
        are kept as those of ``name``. Of evaluations that report more of the episodes than :meth:`evaluate` does."""
        episodes = {panel: evaluate(self.env, tasks[: self.p.test.tasks], policy(), seed=self.seed)[1]
                    for panel, tasks in self.panels.items()}  # fmt: skip
        self.keep(f"rollouts.{name}", records(episodes[self.p.panels[0]][:kept]))
        return episodes

    def readable(
        self, tasks: Sequence[Task], judged: Sequence[Attempts], episodes: Sequence[Trajectory]
    ) -> list[dict[str, Any]]:
        """Dialogues of the first tasks as rows, with the whole texts of their turns."""
        texts = tuple(tuple(step.turn.text for step in one.steps) for one in episodes)
        return answer_records(Attempts(judged[0].correct, texts), tasks[:KEPT_TASKS], episodes[:KEPT_TASKS])


def run(unit: Unit) -> list[MetricRow]:
    """Train and evaluate every variant of one unit; writes its metric rows and marks it finished.

    A finished unit is only read. Results do not depend on the number of workers or threads of the machine.
    """
    if unit.run.finished:
        return unit.run.rows()
    torch.set_num_threads(1)
    method = importlib.import_module(f"papers.{unit.paper}.method")
    if hasattr(method, "run"):  # no ladder of variants: it writes its rows itself
        return method.run(unit)
    unit.run.write_rows(rows_of(Lab(unit, method)))
    unit.run.finish()
    return unit.run.rows()


def rows_of(lab: Lab) -> list[MetricRow]:
    """The metric rows of all variants, in order, computed or read from their stages."""
    method = lab.method
    evaluation = getattr(method, "evaluate", Lab.evaluate)
    for variant in chosen(method.variants(lab.p), lab.p.only):
        trained = method.train(lab, variant)
        measured = _evaluated(lab, variant.name, lambda: evaluation(lab, variant, trained))  # noqa: B023
        lab.results[variant.name] = Result(variant.name, trained.cost, measured)
    results = list(lab.results.values())
    if hasattr(method, "compare"):
        results += method.compare(lab, results)
    return [row for result in results for row in _rows(lab.unit, result)]


def chosen(variants: Sequence[Variant], only: Sequence[str]) -> Sequence[Variant]:
    """Those of ``variants`` that ``only`` names, in their order; all where it names none. ConfigError for an unknown name."""
    names = [variant.name for variant in variants]
    for name in only:
        if name not in names:
            raise ConfigError(f'only: there is no variant "{name}"; {hint(name, names)}')
    return [variant for variant in variants if not only or variant.name in only]


def _evaluated(lab: Lab, name: str, evaluation: Callable[[], list[Measured]]) -> list[Measured]:
    """``evaluation()`` as a stage, logged once."""

    def compute() -> list[dict[str, Any]]:
        measured = evaluation()
        for one in measured:
            lab.log(str(Label(name, acting=one.acting)), 0, {f"{one.panel}/{k}": v for k, v in one.metrics.items()})
        return [asdict(one) | {"cost": cost_of(one.cost)} for one in measured]

    return [Measured(**(one | {"cost": Cost(**one["cost"])})) for one in lab.stage(f"eval.{name}", compute)]


def _rows(unit: Unit, result: Result) -> Iterable[MetricRow]:
    params: UnitParams = unit.params
    for one in result.measured:
        name = str(Label(result.name, acting=one.acting))
        for metric, value in one.metrics.items():
            yield MetricRow(paper=unit.paper, env=unit.env, profile=unit.profile, scale=params.scale, variant=name,
                            seed=unit.seed, panel=f"{unit.env}/{one.panel}", metric=metric, value=value, n=one.n,
                            cost=cost_of(result.cost + one.cost))  # fmt: skip
