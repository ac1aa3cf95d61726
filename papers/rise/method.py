"""RISE (Qu et al. 2024, arXiv:2407.18219): recursive introspection, fine-tuning a policy to improve its own answer.

One question becomes a Markov decision process of up to K turns: the state is the question with the last attempt,
the action an answer, the reward r ∈ {0, 1} its correctness. Iteration i takes the policy of iteration i − 1 and

    1. samples dialogues of k = i + 1 turns on new tasks: attempts y_1 … y_{k−1} are the policy's own, one sample each;
       the last turn is an improvement in the state that these led to: the best of N own samples (self-distilled)
       or an oracle's answer (distilled);
    2. imitates every turn in its state by reward-weighted regression, max Σ exp(r/τ) · log π(y | state).

At test the policy answers five times in a row; the last answer, or the majority over turns (m1@t5), is compared with
the majority of five independent first answers (maj@5), which costs as many samples. Variants, from one model, ``base``:

    rise_self, rise_distil       two iterations; ``rise_self_it1`` is the policy after the first
    rise_filtered                rise_self with weights 0 and 1 instead of exp(r/τ)
    rft                          fine-tuned on right first answers only, as many samples and updates as rise_self
    rise_once                    rise_self's two iterations in a single one of twice the tasks and updates

and each at test with ``+turn1`` (one answer), ``+vote`` (m1@t5) and ``+parallel`` (maj@5).

Differs from the paper:
 1. Nano policies trained from scratch instead of 7B ones; Countdown with worked answers instead of GSM8K and MATH.
 2. The base's demonstrations have a second turn that keeps or replaces an answer, which hardly depends on whether that was right: a nano
    policy could not write one otherwise. The base can check its answers and does not use it.
 3. A dialogue goes on after a right answer. The released code stops there: its later turns follow wrong attempts only, after a request
    that calls them wrong. Ours never does, and a policy never trained on a right attempt no longer keeps one. This makes that easier.
 4. The oracle stands for the stronger teacher (gpt-3.5); it is never wrong.
 5. Each iteration trains the policy of the one before on its own new data alone, with a new Adam (paper: unstated).
 6. Weights are exp(r/τ) divided by exp(1/τ): only their ratio matters to Adam, but with weights of 12 gradients would be clipped.
 7. Answers vote as texts. Two ways to write one answer are two candidates, and none is dropped for missing the target, which anybody
    could check: a vote may not use the reward. Ties count by their expectation.
 8. Evaluated at temperature 1, as trained, and greedily (``greedy_*``), which leaves nothing to vote on.
 9. A pretrained chat model (``model``) answers in prose: right or wrong, and what is voted on, is the answer that the environment reads in a
    turn, while whole turns are imitated; the oracle's turn is the answer alone. All weights are trained, or adapters of ``lora_rank``: new
    ones in each iteration, then added to the weights; beside 4-bit weights (``four_bit``) the second goes on with those of the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean

from common.config import ModelParams
from common.envs.answers import AnswerEnv
from common.evaluate.correction import attempts_of, correction
from common.evaluate.dialogues import dialogues
from common.evaluate.votes import parallel, stacked, votes
from common.lab import BASE, Collected, Lab, Measured, Trained, Variant, spent
from common.learn.batches import SFTExample
from common.lm.engine import Engine
from common.policy import Policy
from common.rng import derive
from common.search.rollout import rollout
from common.types import Message, Task, Turn
from papers.rise.maths import reward_weight

WINDOW = 1
"""Attempts that a prompt shows: the base's context has room for one beside the answer that is written."""


@dataclass(frozen=True)
class Collect:
    iterations: int
    tasks: int
    """New training tasks of each iteration."""
    samples: int
    """N, own samples at the last turn, of which the best is imitated."""


@dataclass(frozen=True)
class Imitate:
    tau: float
    updates: int
    """Of each iteration."""
    batch: int
    lr: float


@dataclass(frozen=True)
class Test:
    tasks: int
    turns: int
    """Turns in a row, and answers in parallel; also the sampled dialogues of each task."""


@dataclass(frozen=True, kw_only=True)
class Params(ModelParams):
    collect: Collect
    sft: Imitate
    test: Test


@dataclass(frozen=True)
class Condition(Variant):
    """``last``: the last turn that is imitated, the ``best`` of N own ones, the ``oracle``'s, or the ``first`` and
    only one. ``stages`` names the policy after each iteration; the last one is the variant's. ``filtered``: weights 0
    and 1. ``size``: multiple of an iteration's tasks and updates.
    """

    last: str = ""
    stages: tuple[str, ...] = ()
    filtered: bool = False
    size: int = 1


def variants(p: Params) -> list[Condition]:
    def iterations(name: str, last: str, *, filtered: bool = False) -> list[Condition]:
        """The policy after each iteration; those before the last one are reported as ``<name>_it<i>``."""
        names = (*(f"{name}_it{i}" for i in range(1, p.collect.iterations)), name)
        return [Condition(one, last, names[: i + 1], filtered) for i, one in enumerate(names)]

    return [
        Condition("base"),
        *iterations("rise_self", "best"),
        *iterations("rise_filtered", "best", filtered=True)[-1:],
        *iterations("rise_distil", "oracle")[-1:],
        *iterations("rft", "first", filtered=True)[-1:],
        Condition("rise_once", "best", ("rise_once",), size=p.collect.iterations),
    ]


def train(lab: Lab, variant: Condition) -> Trained:
    """Each iteration collects turns with the policy of the one before, then imitates them."""
    p, trained = lab.p.sft, BASE
    for i, stage in enumerate(variant.stages, start=1):
        trained = lab.fit(stage, partial(collect, lab, variant, i), start=trained, order=("sft", i), part=i, lr=p.lr,
                          max_steps=p.updates * variant.size, batch_size=p.batch)  # fmt: skip
    return trained


def collect(lab: Lab, variant: Condition, iteration: int, engine: Engine) -> Collected:
    """The weighted turns of one iteration (from 1), sampled from ``engine``."""
    p, policy = lab.p.collect, lab.policy(engine)
    tasks = lab.batch(iteration - 1, p.tasks * variant.size)
    keys = [derive(lab.seed, "collect", iteration, task.id) for task in tasks]
    if variant.last == "first":  # as many samples as rise_self takes for a dialogue
        examples = first_examples(lab.env, tasks, policy, keys=keys, samples=iteration + p.samples)
        return Collected(examples, spent(engine, len(tasks) * (iteration + p.samples)), {"examples": len(examples)})

    def sample() -> Collected:
        env, oracle = lab.env.dialogue(iteration + 1, window=WINDOW), variant.last == "oracle"
        found = improve(env, tasks, policy, keys=keys, samples=p.samples, oracle=oracle)
        return Collected(found, spent(engine, len(tasks) * (iteration + (0 if oracle else p.samples))))

    # In the first iteration all variants sample from the base: those that ask it for the same share the dialogues.
    sampled = lab.once(("dialogues", variant.last, variant.size), sample) if iteration == 1 else sample()
    right = {"own_right": fmean(r for one in sampled.rows for *_, r in one.attempts),
             "improved_right": fmean(one.reward for one in sampled.rows)}  # fmt: skip
    return Collected(examples_of(sampled.rows, tau=lab.p.sft.tau, filtered=variant.filtered), sampled.cost, right)


# -- 1. dialogues of own attempts with an improvement at their last turn (paper §4.2) ---------------------------


@dataclass(frozen=True)
class Improved:
    """One dialogue: the state and turn of each own attempt with its reward, and the improvement at its end."""

    attempts: tuple[tuple[tuple[Message, ...], Turn, float], ...]
    state: tuple[Message, ...]
    target: Turn
    reward: float


def improve(
    env: AnswerEnv, tasks: Sequence[Task], policy: Policy, *, keys: Sequence[int], samples: int, oracle: bool
) -> list[Improved]:
    """Sample all turns but the last of ``env`` once for each task, then improve on the last attempt.

    The improvement is the oracle's answer, or the best of ``samples`` own ones.
    """
    before = env.max_steps - 1
    episodes = rollout(env, list(tasks), policy, keys=list(keys), max_steps=before)
    correct = attempts_of(env, tasks, episodes).correct
    states, prompts, options = [], [], []
    for task, episode in zip(tasks, episodes, strict=True):
        env.reset(task)
        for step in episode.steps:
            env.step(step.turn.text)
        states.append(env.snapshot())
        prompts.append(env.prompt())
        options.append([Turn(env.oracle(), 0.0, 0)])
    if not oracle:
        options = policy.propose(prompts, [derive(key, "step", before) for key in keys], samples)
    improved = []
    for episode, right, state, prompt, turns in zip(episodes, correct, states, prompts, options, strict=True):
        env.restore(state)  # a turn may keep the attempt before it
        rewards = [env.score(turn.text) for turn in turns]
        chosen = best(turns, rewards)
        own = tuple((step.prompt, step.turn, float(r)) for step, r in zip(episode.steps, right, strict=True))
        improved.append(Improved(own, prompt, turns[chosen], rewards[chosen]))
    return improved


def best(turns: Sequence[Turn], rewards: Sequence[float]) -> int:
    """Index of the first finished turn of highest reward; 0 when none is finished."""
    return max(range(len(turns)), key=lambda i: (turns[i].finished, rewards[i], -i))


def first_examples(
    env: AnswerEnv, tasks: Sequence[Task], policy: Policy, *, keys: Sequence[int], samples: int
) -> list[SFTExample]:
    """Distinct right answers among ``samples`` first ones of each task (rejection fine-tuning)."""
    prompts = []
    for task in tasks:
        env.reset(task)
        prompts.append(env.prompt())
    examples = []
    for task, prompt, turns in zip(tasks, prompts, policy.propose(prompts, list(keys), samples), strict=True):
        env.reset(task)
        right = dict.fromkeys(turn.text for turn in turns if turn.finished and env.score(turn.text) == 1.0)
        examples += [SFTExample(prompt, text) for text in right]
    return examples


# -- 2. reward-weighted imitation (paper §4.3) -------------------------------------------------------------------


def examples_of(found: Sequence[Improved], *, tau: float, filtered: bool) -> list[SFTExample]:
    """Every finished turn in its state, with weight exp((r − 1)/τ), or r when ``filtered``: a right answer weighs 1
    both ways. The tokens of the state carry no loss."""
    turns = [turn for one in found for turn in (*one.attempts, (one.state, one.target, one.reward))]
    weighted = [(state, turn, r if filtered else reward_weight(r - 1, tau)) for state, turn, r in turns]
    return [SFTExample(state, turn.text, weight) for state, turn, weight in weighted if turn.finished and weight > 0]


# -- 3. several answers in a row against several in parallel (paper §5) ------------------------------------------


def evaluate(lab: Lab, variant: Condition, trained: Trained) -> list[Measured]:
    """``turns`` dialogues of each task with ``turns`` turns; their first answers are the independent ones that vote."""
    engine, test, found = lab.engine(trained), lab.p.test, []
    env = lab.env.dialogue(test.turns, window=WINDOW)
    for panel, tasks in lab.panels_for(trained).items():
        tasks = tasks[: test.tasks]
        draws, episodes = dialogues(env, tasks, lab.policy(engine), seed=lab.seed, draws=test.turns)
        if panel == lab.p.panels[0]:
            lab.keep(f"dialogues.{variant.name}", lab.readable(tasks, draws, episodes))
        in_turn, in_parallel = votes(stacked(draws)), votes(parallel(draws))
        whole = correction(stacked(draws)) | in_turn | {f"parallel_{k}": v for k, v in in_parallel.items()}
        whole["success"] = whole[f"acc@{test.turns}"]
        greedy, _ = dialogues(env, tasks, lab.policy(engine, 0.0), seed=lab.seed, draws=1)
        whole |= {f"greedy_{k}": v for k, v in correction(stacked(greedy)).items()}
        whole["greedy_success"] = whole[f"greedy_acc@{test.turns}"]
        ways = {"": whole, "turn1": {"success": whole["acc@1"], "greedy_success": whole["greedy_acc@1"]},
                "vote": {"success": in_turn["vote"]}, "parallel": {"success": in_parallel["vote"]}}  # fmt: skip
        found += [Measured(panel, metrics, len(tasks), acting=way) for way, metrics in ways.items()]
    return found
