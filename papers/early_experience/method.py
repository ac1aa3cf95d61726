"""Early Experience (arXiv:2510.08558): learning from what one's own actions lead to, without reward.

An expert demonstrates (s_i, a_i). At each of its states K other actions a_i^j are sampled from the policy and executed;
the states they lead to, s_i^j, are kept. No reward is read. Two ways of using them:

    implicit world modelling   L = −Σ log p(s_i^j | s_i, a_i^j), then imitation               (iwm)
    self-reflection            L = −Σ log p(c_i^j, a_i | s_i), mixed with the demonstrations  (sr)

where the reflection c_i^j sets what the other action led to against what the expert's led to. Both are compared with
imitation, L = −Σ log p(a_i | s_i), for the same total number of updates of the same size:

    start → imitation, iwm, sr                      all demonstrations
    star                                            reflections about outcomes that nobody executed (STaR-style)
    imitation_eighth, iwm_eighth                    one eighth of the demonstrated tasks
    imitation_rl, iwm_rl, sr_rl                     then policy gradient on the episode's reward, equal steps
    iwm_world                                       iwm before its imitation phase: what it foresees, and how it acts

Differs from the paper:
 1. A nano policy plays the pretrained model's part (``start``, the same for all variants). Of countdown-v3 it knows the rules;
    in the shop it was warm-started on other demonstrations, so that imitation has less to add.
 2. A nano policy writes no free text. Reflections have one form, made from what a player can read on the pages
    (``Reader.outcome`` of :mod:`common.search.reader`): what the other action led to, what the expert's leads to, and on
    the last line the expert's action; only where the two differ. The other action is not written: that taught the
    policy to propose it. When it acts, the policy writes the reflection itself, or acts at once, as in its data.
 3. ``star`` has the same sentences, in which what the other action led to is that of some other action tried at the
    same kind of page; it pays for no execution. The paper's STaR-style baseline lets the model explain freely.
 4. World modelling and imitation are two optimisations, the first taking a fixed part of the updates.
 5. The next state is the page alone, ``over`` at the end: goal and reward are left out. It is written in shorthand
    (``Reader.written``), since of whole pages the policy learned nothing in its share of the updates. States that the
    expert's actions lead to are not learned to foresee.
 6. Equal updates are not equal tokens: of the shop a page has five times the tokens of an action, a reflection three times.
 7. RL is REINFORCE with a leave-one-out baseline and a KL to the start of RL (the paper: GRPO); the reward at the end is
    credited to all turns. Early experience's own environment steps come on top of those of RL.
 8. Policies act by sampling at ``temperature``, for nano policies 1, as they are trained, and greedily (``greedy_*``).
 9. A pretrained chat model (``model``) is shown what actions look like, with an episode of another shop
    (:mod:`common.envs.shop.instruction`). Reflections and pages keep our forms. RL samples at temperature 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from common.config import ModelParams
from common.envs.contract import Env
from common.envs.shop.instruction import instructed
from common.envs.versions.countdown_v1 import CountdownEnv
from common.evaluate.foresight import fidelity, forecasts, imagine
from common.evaluate.habits import habits
from common.evaluate.rollouts import sampling_cost
from common.lab import BASE, Collected, Lab, Measured, Trained, Variant
from common.learn.batches import SFTExample
from common.lm.engine import Engine
from common.rng import derive, generator
from common.search.reader import Foreseer, Reader, ShopReader, reader_of
from common.search.rollout import rollout
from common.search.transitions import Transition
from common.types import Trajectory
from papers.early_experience import maths
from papers.early_experience.params import Experience, Learn, Reinforce, Test


@dataclass(frozen=True, kw_only=True)
class Params(ModelParams):
    temperature: float
    """Of acting, and of sampling what else to try."""
    page_tokens: int
    """Most tokens of an imagined page, in shorthand."""
    learn: Learn
    experience: Experience
    rl: Reinforce
    test: Test


@dataclass(frozen=True)
class Condition(Variant):
    """What is learned beyond the condition ``after`` (None: the start): "imitation", "world", "reflections", "invented"
    ones, or "reward"; from one ``share``-th of the demonstrated tasks, with at most ``k`` alternatives a state."""

    learns: str = ""
    share: int = 1
    k: int = 0
    after: Condition | None = None


FORESEEING = ("start", "imitation", "iwm_world", "iwm", "iwm_rl")
"""Policies whose foresight is measured; start and imitation were not trained to foresee and show what chance gives."""


def variants(p: Params) -> list[Condition]:
    few, k, r = p.experience.few, p.experience.k, p.experience.k_reflect
    imitation, sr = Condition("imitation", "imitation"), Condition("sr", "reflections", k=r)
    iwm = Condition("iwm", "imitation", after=Condition("iwm_world", "world", k=k))
    return [
        Condition("start"), imitation, iwm.after, iwm, sr, Condition("star", "invented", k=r),
        *(Condition(f"{one.name}_rl", "reward", after=one) for one in (imitation, iwm, sr)),
        Condition("imitation_eighth", "imitation", few),
        Condition("iwm_eighth", "imitation", few, after=Condition("iwm_eighth_world", "world", few, k)),
    ]  # fmt: skip


def environment(lab: Lab) -> Env:
    """The last line of a turn is the action; prompts of a chat model begin with an instruction on the format of actions."""
    env = lab.make_env()
    return maths.LastLine(env if lab.p.model == "nano" else instructed(env))


def reader(lab: Lab) -> Reader:
    return reader_of(lab.env.env) if lab.p.model == "nano" else ShopReader(maths.instructed_view)


def train(lab: Lab, variant: Condition) -> Trained:
    """One phase of learning, on top of the condition before it."""
    before = train(lab, variant.after) if variant.after else BASE
    if variant.learns == "reward":
        return reinforce(lab, variant.name, before)
    return learn(lab, variant, before) if variant.learns else before


# -- 1. early experience, and learning from it -------------------------------------------------------------------------


def experience(lab: Lab, share: int) -> list[Transition]:
    """The expert's states with what else was tried there, of one ``share``-th of the tasks; shared by all variants."""
    p, env, tasks = lab.p.experience, lab.env.env, lab.tasks[: lab.p.experience.tasks]

    def tried() -> list[Transition]:
        played = []
        for task in tasks:
            rng = generator(lab.seed, "expert", task.id)
            played += maths.demonstrate(env, reader(lab), task, lambda: env.expert(rng)[0])  # noqa: B023
        policy = lab.policy(lab.engine(), lab.p.temperature)
        return maths.try_others(env, reader(lab), played, policy, k=max(p.k, p.k_reflect), draws=p.draws, seed=lab.seed)

    ids = {task.id for task in tasks[: max(1, len(tasks) // share)]}
    return [state for state in lab.once("experience", tried) if state.task_id in ids]


def learn(lab: Lab, variant: Condition, before: Trained) -> Trained:
    p, world = lab.p.learn, variant.learns == "world"

    def collect(engine: Engine) -> Collected:
        states = experience(lab, variant.share)
        executed = variant.learns != "invented"
        cost = maths.experience_cost(states, variant.k, engine, draws=lab.p.experience.draws, executed=executed)
        return Collected(rows(lab, variant, states), cost)

    lr, updates = (p.world_lr, p.world_updates) if world else (p.lr, p.updates - bool(variant.after) * p.world_updates)
    return lab.fit(variant.name, collect, start=before, part=2 if variant.after else 1, lr=lr, max_steps=updates,
                   batch_size=p.batch, order=("world" if world else "act", variant.share))  # fmt: skip


def rows(lab: Lab, variant: Condition, states: Sequence[Transition]) -> list[SFTExample]:
    """Pages for world modelling; else demonstrations, mixed with reflections."""
    if variant.learns == "world":
        return maths.world_rows(states, variant.k, reader(lab))
    found = maths.imitation_rows(states)
    if variant.learns == "reflections":
        found += maths.reflection_rows(states, variant.k, reader(lab))
    if variant.learns == "invented":
        rng = generator(lab.seed, "invent")
        shuffled = lambda real: [real[i] for i in rng.permutation(len(real))]  # noqa: E731
        found += maths.reflection_rows(states, variant.k, reader(lab), invent=shuffled)
    return found


# -- 2. reinforcement learning -----------------------------------------------------------------------------------------


def reinforce(lab: Lab, name: str, before: Trained) -> Trained:
    """Policy gradient on the episode's reward; every update sees as many environment steps, up to one group."""
    p = lab.p.rl

    def collect(engine: Engine, update: int) -> Collected:
        episodes = sample(lab, engine, update)
        dialogues = maths.episode_dialogues(episodes, group=p.group, beta=p.beta)
        return Collected(dialogues, sampling_cost(episodes, engine), {"reward": fmean(one.reward for one in episodes)})

    return lab.reinforce(name, collect, lr=p.lr, updates=p.updates, warmup=2, start=before, reference=before)


def sample(lab: Lab, engine: Engine, update: int) -> list[Trajectory]:
    """The episodes of one update, ``group`` of a task side by side; tasks and seeds are those of all variants."""
    p, tasks, policy = lab.p.rl, lab.tasks[: lab.p.rl.tasks], lab.policy(engine)
    episodes, wave, usual = [], 0, 2 if isinstance(lab.env.env, CountdownEnv) else 8  # steps of an episode, to size a wave
    while sum(len(episode.steps) for episode in episodes) < p.env_steps:
        order = generator(lab.seed, "rl", update, wave).permutation(len(tasks))
        chosen = [tasks[i] for i in order[: max(1, p.env_steps // (usual * p.group))] for _ in range(p.group)]
        keys = [derive(lab.seed, "rl", update, wave, i) for i in range(len(chosen))]
        episodes += rollout(lab.env, chosen, policy, keys=keys)
        wave += 1
    return maths.within_budget(episodes, group=p.group, env_steps=p.env_steps)


# -- 3. evaluation -----------------------------------------------------------------------------------------------------


def evaluate(lab: Lab, variant: Condition, trained: Trained) -> list[Measured]:
    """Success, sampled and greedy, and habits on every panel; of some policies also how well they foresee."""
    engine = lab.engine(trained)
    found = lab.evaluate(variant, trained, acting=lambda policy: lab.policy(engine, lab.p.temperature) if policy.temperature else policy)
    acted = lab.episodes(variant.name, lambda: lab.policy(engine, lab.p.temperature), kept=40)
    found += [Measured(panel, habits(episodes, invalid=reader(lab).invalid), len(episodes)) for panel, episodes in acted.items()]
    return found + ([foresight(lab, variant.name, engine)] if variant.name in FORESEEING else [])


def foresight(lab: Lab, name: str, engine: Engine) -> Measured:
    """Imagined against real states, greedily, from every state of a demonstrator, in the shop of one who slips."""
    first, env, found = lab.p.panels[0], lab.env.env, []
    for task in lab.panels[first][: lab.p.test.foresight_tasks]:
        rng = generator("walk", task.id)
        played = maths.demonstrate(env, reader(lab), task, lambda: env.expert(rng)[1])  # noqa: B023
        found += forecasts([one for one, _ in played], depth=lab.p.test.depth)
    model = lab.policy(engine, 0.0, max_new_tokens=lab.p.page_tokens)
    imagine(found, Foreseer(model, reader(lab)), reader(lab).follow, seed=lab.seed)
    lab.keep(f"forecasts.{name}", [one.record() for one in found[:60]])
    return Measured(first, fidelity(found), len(found))
