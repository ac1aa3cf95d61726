"""Early Experience (arXiv:2510.08558): learning from what one's own actions lead to, without reward.

An expert demonstrates (s_i, a_i). At each of its states K other actions a_i^j are sampled from the policy and
executed; the states they lead to, s_i^j, are kept. No reward is read. Two ways of using them:

    implicit world modelling   L = −Σ log p(s_i^j | s_i, a_i^j), then imitation            (iwm)
    self-reflection            L = −Σ log p(c_i^j, a_i | s_i), mixed with the demonstrations  (sr)

where the reflection c_i^j sets what the other action led to against what the expert's led to. Both are compared
with imitation, L = −Σ log p(a_i | s_i), for the same total number of updates of the same size:

    start → imitation, iwm, sr                      all demonstrations
    star                                            reflections about outcomes that nobody executed (STaR-style)
    imitation_eighth, iwm_eighth, sr_eighth         one eighth of the demonstrated tasks
    imitation_rl, iwm_rl, sr_rl                     then policy gradient on the episode's reward, equal steps
    iwm_world                                       iwm before its imitation phase: what it foresees, and how it acts

Differs from the paper:
 1. A nano policy of 0.4 M parameters, warm-started on other demonstrations of the same shop, plays the pretrained
    model's part (``start``, the same for all variants). It acts better than an untuned model of the paper, so imitation
    has less to add, and has never written a page, which a pretrained model can. ``start.updates`` first teaches
    it to write pages of the shop from the goal alone, mixed with acting; this costs it some of its acting.
 2. A nano policy writes no free text. Reflections have one form, made from what a player can read on the pages
    (:mod:`common.envs.shop.reading`): what the page of the other action means for the goal, what the expert's means,
    and on the last line the expert's action; only where the two differ. The other action itself is not written: a
    pilot that wrote it taught the policy to propose it, and to copy actions worse. When it acts, the
    policy writes the reflection itself and its last line is the action; as in its data, it may also act at once.
 3. ``star`` has the same sentences, in which what the other action led to is that of some other action tried at
    the same kind of page (so it invents as often as is true, and is charged for no execution). The paper's
    STaR-style baseline lets the model explain freely, also without executing.
 4. World modelling and imitation are two optimisations (each with its warm-up, decay and rate), the first taking
    a fixed part of the updates.
 5. The next state is the page alone (``invalid action`` before it where the action was), ``over`` at the end: goal
    and reward are left out. It is asked for and written in shorthand (:mod:`common.envs.shop.shorthand`): shown is
    what the action touches, written is what is new. Asked for whole pages, the policy learned nothing in its share
    of the updates. States reached by the expert itself are not in the world model's data.
 6. Equal updates are not equal tokens: a page has five times the tokens of an action, a reflection three times.
    The paper's rule is kept, the tokens are in the cost.
 7. RL is REINFORCE with a leave-one-out baseline and a KL to the start of RL (the paper: GRPO), reward the
    shop's score in [0, 1] at the end, credited to all turns of an episode. Early experience's own environment
    steps come on top of those of RL, which are equal.
 8. Policies act by sampling at ``temperature``, for nano policies 1, as they are trained.
 9. A pretrained chat model (``model``) is told what actions look like and shown an episode of another shop
    (:mod:`common.envs.shop.instruction`). Reflections and pages keep our forms. RL samples at temperature 1, since its
    gradient is that of these probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean

import torch

from common.config import ConfigError
from common.envs import load_panel, make
from common.envs.last_line import LastLine
from common.envs.shop.engine import INVALID
from common.envs.shop.instruction import FORESEE, instructed
from common.envs.shop.reading import follow, goal_of, outcome, page_of
from common.envs.shop.shorthand import Shorthand, View, question, short, touched
from common.evaluate.habits import habits
from common.evaluate.imagination import fidelity, imagine, walks_of
from common.evaluate.rollouts import evaluate, records
from common.learn.batches import SFTExample
from common.learn.episodes import episode_dialogues, within_budget
from common.learn.policy import sft
from common.learn.policy_gradient import Dialogue, PolicyGradientSettings, policy_gradient
from common.learn.settings import TrainSettings
from common.lm.base import demonstrations
from common.lm.device import on_device
from common.lm.engine import Engine
from common.lm.models import load_model, save_model
from common.lm.policy import LMPolicy
from common.rng import derive, generator
from common.search.experience import Moment, demonstrate, try_others
from common.search.rollout import rollout
from common.track.lines import write_lines
from common.track.rows import MetricRow, cost_of
from common.types import Cost, Task, Trajectory


@dataclass(frozen=True)
class Start:
    tasks: int
    """Tasks of the ``demos`` panel whose pages are learned to be written."""
    updates: int
    """0: the base model as it is."""
    lr: float


@dataclass(frozen=True)
class Learn:
    updates: int
    """Of every trained variant, before RL."""
    world_updates: int
    """Of these, for world modelling in iwm."""
    batch: int
    lr: float
    world_lr: float


@dataclass(frozen=True)
class Experience:
    tasks: int
    """Demonstrated tasks."""
    few: int
    """``*_eighth`` variants get one ``few``-th of them."""
    draws: int
    """Actions sampled at each of the expert's states."""
    k: int
    """Most alternatives tried at a state for world modelling."""
    k_reflect: int
    """The same for reflections."""


@dataclass(frozen=True)
class Reinforce:
    updates: int
    env_steps: int
    """Environment steps an update."""
    group: int
    """Episodes of one task."""
    lr: float
    beta: float


@dataclass(frozen=True)
class Test:
    tasks: int
    walks: int
    depth: int


@dataclass(frozen=True)
class Params:
    model: str
    """What everything starts from: "nano", the environment's own base model, or a pretrained one."""
    temperature: float
    """Of acting, and of drawing what else to try."""
    action_tokens: int
    """Most tokens of a turn: a reflection and an action."""
    page_tokens: int
    """Most tokens of a foreseen page, in shorthand."""
    start: Start
    learn: Learn
    experience: Experience
    rl: Reinforce
    test: Test
    panels: tuple[str, ...]


@dataclass(frozen=True)
class Variant:
    """One training condition: what is learned (``imitation``, ``iwm``, ``sr``, ``star``), from one ``share``-th of
    the demonstrated tasks, with at most ``k`` alternatives a state."""

    name: str
    kind: str
    share: int = 1
    k: int = 0


def variants(p: Params) -> list[Variant]:
    few, k, r = p.experience.few, p.experience.k, p.experience.k_reflect
    return [
        Variant("imitation", "imitation"),
        Variant("iwm", "iwm", k=k),
        Variant("sr", "sr", k=r),
        Variant("star", "star", k=r),
        Variant("imitation_eighth", "imitation", few),
        Variant("iwm_eighth", "iwm", few, k),
        Variant("sr_eighth", "sr", few, r),
    ]


REINFORCED = ("imitation", "iwm", "sr")
FORESEEING = ("start", "imitation", "iwm_world", "iwm", "iwm_rl")
"""Policies whose foresight is measured; start and imitation were never asked and show what chance gives."""

WARMUP = 2
"""Updates of linear warm-up in RL (ours)."""


# -- 1. rows of training from early experience ----------------------------------------------------------------


def reading_rows(acting: Sequence[SFTExample]) -> list[SFTExample]:
    """p(page | goal) of the pages shown in ``acting``: the language of pages, and nothing of what leads to them."""
    shown = [example.prompt[0]["content"] for example in acting]
    return [SFTExample(({"role": "user", "content": text.split("\n", 1)[0]},), page_of(text)) for text in shown]


def imitation_rows(moments: Sequence[Moment]) -> list[SFTExample]:
    """p(a_i | s_i)."""
    return [SFTExample(moment.prompt, moment.expert.action) for moment in moments]


def foretold(prompt: str, action: str) -> str:
    """What a chat model is shown that is to foresee."""
    return f"{FORESEE}\n\n{touched(prompt, action)}"


def world_rows(moments: Sequence[Moment], k: int, view: View = touched) -> list[SFTExample]:
    """p(s_i^j | s_i, a_i^j) for the first ``k`` alternatives of each state, the loss of IWM, in shorthand."""
    told = [(moment.prompt[-1]["content"], tried) for moment in moments for tried in moment.others[:k]]
    return [SFTExample(question(text, tried.action, view), short(page_of(text), tried.action, tried.after))
            for text, tried in told]  # fmt: skip


def meaning(moment: Moment, page: str) -> str:
    return outcome(goal_of(moment.prompt[-1]["content"]), page)


def reflection(led_to: str, better: str, action: str) -> str:
    """c_i^j and a_i as one turn: what came of the other action, what comes of the expert's, the expert's action."""
    return f"not {led_to} but {better}\n{action}"


def reflection_rows(moments: Sequence[Moment], k: int, *, invent: Callable[[list[str]], list[str]]) -> list[SFTExample]:
    """p(c_i^j, a_i | s_i) for the first ``k`` alternatives of each state, the loss of SR.

    ``invent`` replaces what the alternatives of one kind of page led to, given in their order: the identity keeps
    what was executed. Where this then reads like what the expert's action led to, there is nothing to reflect on.
    """
    told = [(moment, tried) for moment in moments for tried in moment.others[:k]]
    by_kind: dict[str, list[int]] = {}
    for i, (moment, _) in enumerate(told):
        page = moment.prompt[-1]["content"].rsplit("\n", 1)[-1]
        kind = "item" if page.startswith("buy now") else "search" if page == "search page" else "results"
        by_kind.setdefault(kind, []).append(i)
    led_to = [""] * len(told)
    for members in by_kind.values():
        real = [meaning(told[i][0], told[i][1].after) for i in members]
        for i, text in zip(members, invent(real), strict=True):
            led_to[i] = text
    return [
        SFTExample(m.prompt, reflection(text, better, m.expert.action))
        for (m, _), text in zip(told, led_to, strict=True)
        if text != (better := meaning(m, m.expert.after))
    ]


# -- 2. the unit: all variants, resumable one by one -----------------------------------------------------------------


class Experiment:
    """One unit at work: environment, tasks, and stages that are computed once and then read back."""

    def __init__(self, unit) -> None:
        self.unit, self.run, self.p, self.seed = unit, unit.run, unit.params, unit.seed
        self.shop, self.view = make(unit.env, unit.data), touched
        if self.p.model != "nano":
            self.shop, self.view = instructed(self.shop), foretold
            if self.p.start.updates:
                raise ConfigError(f"start.updates: {self.p.start.updates} updates would show {self.p.model} what only "
                                  "nano models read; it starts as it is: start.updates=0")  # fmt: skip
        self.env = LastLine(self.shop)
        panel = load_panel(unit.data, f"{unit.env}/train")
        order = generator(self.seed, "tasks").permutation(len(panel))
        self.tasks = [panel[i] for i in order[: self.p.experience.tasks]]
        self.panels = {name: load_panel(unit.data, f"{unit.env}/{name}") for name in self.p.panels}

    def engine(self, stage: str) -> Engine:
        """The policy that ``stage`` saved."""
        return Engine(*on_device(*load_model(self.run.stage_path(stage))))

    def policy(self, engine: Engine) -> LMPolicy:
        return LMPolicy(engine, self.p.temperature, max_new_tokens=self.p.action_tokens)

    def expert(self, task: Task) -> Callable[[], str]:
        """The demonstrator of the base's warm start, whose hand never slips here."""
        rng = generator(self.seed, "expert", task.id)
        return lambda: self.shop.expert(rng)[0]

    def start(self) -> str:
        """The stage of the policy all variants start from: the base model, where asked taught to write pages too."""

        def compute() -> dict:
            model, tokenizer = on_device(*load_model(self.unit.base))
            p, rows = self.p.start, []
            with self.run.stage_dir("train.start") as folder:
                if p.updates:
                    tasks = load_panel(self.unit.data, f"{self.unit.env}/demos")[: p.tasks]
                    acting = demonstrations(self.shop, tasks, seed=derive(self.seed, "start"), repeats=1)
                    rows = [*acting, *reading_rows(acting)]
                    settings = TrainSettings(lr=p.lr, max_steps=p.updates, batch_size=self.p.learn.batch, warmup=0.1,
                                             max_length=model.config.max_position_embeddings)  # fmt: skip
                    sft(model, tokenizer, rows, settings, seed=derive(self.seed, "start") % 2**31, out_dir=self.run.artifacts,
                        log=self.log("start", 1))  # fmt: skip
                save_model(model, tokenizer, folder)
            return {"rows": len(rows)}

        self.run.stage("train.start", compute)
        return "train.start"

    # early experience

    @cached_property
    def _moments(self) -> list[Moment]:
        """The states of all demonstrations with what else was tried there; the same for all variants."""
        played = [pair for task in self.tasks for pair in demonstrate(self.shop, task, self.expert(task))]
        policy = self.policy(self.engine(self.start()))
        p = self.p.experience
        return try_others(self.shop, played, policy, k=max(p.k, p.k_reflect), draws=p.draws, seed=self.seed)

    def moments(self, share: int) -> list[Moment]:
        ids = {task.id for task in self.tasks[: max(1, len(self.tasks) // share)]}
        return [moment for moment in self._moments if moment.task_id in ids]

    def experience_cost(self, moments: Sequence[Moment], variant: Variant, engine: Engine) -> Cost:
        """What a variant's alternatives cost: drawing them, and executing them unless it is ``star``."""
        if not variant.k:
            return Cost()
        tried = sum(len(moment.others[: variant.k]) for moment in moments)
        return Cost(
            env_steps=0 if variant.kind == "star" else tried, lm_calls=len(moments),
            prompt_tokens=sum(len(engine.prompt_ids(moment.prompt)) for moment in moments),
            sampled_tokens=sum(moment.sampled_tokens for moment in moments),
            samples=len(moments) * self.p.experience.draws,
        )  # fmt: skip

    def rows(self, variant: Variant, moments: Sequence[Moment]) -> list[SFTExample]:
        """What ``variant`` learns last; for iwm its imitation phase."""
        shown = imitation_rows(moments)
        if variant.kind == "sr":
            shown += reflection_rows(moments, variant.k, invent=lambda real: real)
        if variant.kind == "star":
            rng = generator(self.seed, "invent")
            shuffle = lambda real: [real[i] for i in rng.permutation(len(real))]  # noqa: E731
            shown += reflection_rows(moments, variant.k, invent=shuffle)
        return shown

    # training

    def train(self, variant: Variant) -> tuple[str, Cost]:
        """Train ``variant``; the stage that holds its weights and what it cost altogether."""
        p = self.p.learn
        if variant.kind != "iwm":
            return self.fit(variant, "act", self.start(), p.updates, p.lr)
        before, world = self.model_world(variant)
        stage, cost = self.fit(variant, "act", before, p.updates - p.world_updates, p.lr)
        return stage, world + cost

    def model_world(self, variant: Variant) -> tuple[str, Cost]:
        return self.fit(variant, "world", self.start(), self.p.learn.world_updates, self.p.learn.world_lr)

    def fit(self, variant: Variant, phase: str, before: str, updates: int, lr: float) -> tuple[str, Cost]:
        """One optimisation, going on from the stage ``before``: ``world`` modelling or learning to ``act``."""
        stage = f"train.{variant.name}.{phase}"
        world = phase == "world"

        def compute() -> dict:
            engine, moments = self.engine(before), self.moments(variant.share)
            examples = world_rows(moments, variant.k, self.view) if world else self.rows(variant, moments)
            paid = world or variant.kind != "iwm"  # iwm's experience was paid for in its first phase
            cost = self.experience_cost(moments, variant, engine) if paid else Cost()
            settings = TrainSettings(lr=lr, max_steps=updates, batch_size=self.p.learn.batch,
                                     max_length=engine.context, warmup=0.1)  # fmt: skip
            seed = derive(self.seed, phase, variant.share) % 2**31
            with self.run.stage_dir(stage) as folder:
                if examples:  # a policy that only ever repeats the expert leaves nothing to foresee
                    stats = sft(engine.model, engine.tokenizer, examples, settings, seed=seed, out_dir=self.run.artifacts,
                                log=self.log(variant.name, 1 if world or variant.kind != "iwm" else 2))  # fmt: skip
                    cost = replace(cost, updates=stats.updates)
                save_model(engine.model, engine.tokenizer, folder)
            self.run.log(variant.name, 0, {f"rows/{phase}": len(examples)})
            return {"cost": cost_of(cost), "rows": len(examples)}

        return stage, Cost(**self.run.stage(stage, compute)["cost"])

    def log(self, name: str, r: int) -> Callable:
        keep = ("loss", "grad_norm", "logp")
        return lambda update, found: self.run.log(name, update, {f"r{r}/train/{k}": found[k] for k in keep})

    def reinforce(self, name: str, start: str) -> tuple[str, Cost]:
        """Policy gradient from the stage ``start``; every update sees as many environment steps, up to one group."""
        stage, p = f"train.{name}_rl", self.p.rl

        def compute() -> dict:
            engine, (reference, _) = self.engine(start), on_device(*load_model(self.run.stage_path(start)))
            played: list[Trajectory] = []
            reward = 0.0

            def collect(update: int) -> list[Dialogue]:
                nonlocal reward
                episodes = self.sample(engine, update)
                played.extend(episodes)
                reward = fmean(episode.reward for episode in episodes)
                return episode_dialogues(episodes, group=p.group, beta=p.beta)

            def log(update: int, found: dict) -> None:
                shown = {k: found[k] for k in ("loss", "grad_norm", "kl_1") if k in found} | {"reward": reward}
                self.run.log(f"{name}_rl", update, {f"r1/train/{k}": v for k, v in shown.items()})

            settings = PolicyGradientSettings(lr=p.lr, updates=p.updates, max_length=engine.context, warmup=WARMUP)
            with self.run.stage_dir(stage) as folder:
                stats = policy_gradient(
                    engine.model, reference, engine.tokenizer, collect, settings, out_dir=self.run.artifacts, log=log
                )
                save_model(engine.model, engine.tokenizer, folder)
            steps = [step for episode in played for step in episode.steps]
            cost = Cost(env_steps=len(steps), lm_calls=len(steps), samples=len(steps), updates=stats.updates,
                        prompt_tokens=sum(len(engine.prompt_ids(step.prompt)) for step in steps),
                        sampled_tokens=sum(step.turn.n_tokens for step in steps))  # fmt: skip
            return {"cost": cost_of(cost)}

        return stage, Cost(**self.run.stage(stage, compute)["cost"])

    def sample(self, engine: Engine, update: int) -> list[Trajectory]:
        """The episodes of one update, ``group`` of a task side by side; tasks and seeds are those of all variants."""
        p, episodes, wave = self.p.rl, [], 0
        policy, usual = LMPolicy(engine, max_new_tokens=self.p.action_tokens), 8  # steps an episode, to size a wave
        while sum(len(episode.steps) for episode in episodes) < p.env_steps:
            order = generator(self.seed, "rl", update, wave).permutation(len(self.tasks))
            chosen = [self.tasks[i] for i in order[: max(1, p.env_steps // (usual * p.group))]]
            tasks = [task for task in chosen for _ in range(p.group)]
            keys = [derive(self.seed, "rl", update, wave, i) for i in range(len(tasks))]
            episodes += rollout(self.env, tasks, policy, keys=keys)
            wave += 1
        return within_budget(episodes, group=p.group, env_steps=p.env_steps)

    # evaluation

    def evaluate(self, name: str, stage: str) -> dict:
        """Success, habits and, for some, foresight; episodes and walks of the first panel are kept to be looked at."""

        def compute() -> dict:
            engine, result = self.engine(stage), {}
            for panel, tasks in self.panels.items():
                policy = self.policy(engine)
                metrics, episodes = evaluate(self.env, tasks[: self.p.test.tasks], policy, seed=self.seed)
                result[panel] = metrics | habits(episodes, invalid=INVALID) | {"n": len(episodes)}
                if panel == self.p.panels[0]:
                    write_lines(self.run.artifacts / f"rollouts.{name}.jsonl", records(episodes[:40]))
                    if name in FORESEEING:
                        result["foresight"] = self.foresee(name, engine, tasks[: self.p.test.walks])
            flat = {f"{panel}/{k}": v for panel, found in result.items() for k, v in found.items()}
            self.run.log(name, 0, {k.replace("@", "_"): v for k, v in flat.items()})
            return result

        return self.run.stage(f"eval.{name}", compute)

    def foresee(self, name: str, engine: Engine, tasks: Sequence[Task]) -> dict[str, float]:
        """Imagined against real states along a demonstrator's slipping hand, greedily, from every state of it."""
        walks = []
        for task in tasks:
            rng = generator("walk", task.id)
            made = [moment for moment, _ in demonstrate(self.shop, task, lambda: self.shop.expert(rng)[1])]
            walks += walks_of(made, depth=self.p.test.depth)
        model = LMPolicy(engine, temperature=0.0, max_new_tokens=self.p.page_tokens)
        imagine(walks, Shorthand(model, self.view), follow, seed=self.seed)
        write_lines(self.run.artifacts / f"walks.{name}.jsonl", [walk.record() for walk in walks[:60]])
        return fidelity(walks) | {"n": len(walks)}


def run(unit) -> list[MetricRow]:
    """Train and evaluate every variant of one unit; writes its metric rows and marks it finished."""
    if unit.run.finished:
        return unit.run.rows()
    torch.set_num_threads(1)  # bit-identical results whatever the number of workers
    work, rows = Experiment(unit), []

    def evaluate_all(name: str, stage: str, cost: Cost) -> None:
        for part, metrics in work.evaluate(name, stage).items():
            n, panel = metrics.pop("n"), work.p.panels[0] if part == "foresight" else part
            rows.extend(
                MetricRow(paper="early_experience", env=unit.env, profile=unit.profile, scale=work.p.model,
                          variant=name, seed=unit.seed, panel=f"{unit.env}/{panel}", metric=metric, value=value, n=n,
                          cost=cost_of(cost))  # fmt: skip
                for metric, value in metrics.items()
            )

    evaluate_all("start", work.start(), Cost())
    for variant in variants(work.p):
        stage, cost = work.train(variant)
        evaluate_all(variant.name, stage, cost)
        if variant.name == "iwm":
            evaluate_all("iwm_world", *work.model_world(variant))
        if variant.name in REINFORCED:
            reinforced, more = work.reinforce(variant.name, stage)
            evaluate_all(f"{variant.name}_rl", reinforced, cost + more)
    unit.run.write_rows(rows)
    unit.run.finish()
    return rows
