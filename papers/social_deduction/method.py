"""Social deduction (Sarkar et al. 2025, arXiv:2502.06060): crews that learn to listen and to speak.

Four crew members and an impostor discuss who the impostor is (deduction-v1); each knows only what itself saw. Then the
crew vote, and win when the impostor is ejected. They share one set of weights π, trained by policy gradient on the
win; the impostor has weights of its own. Two terms make the sparse reward dense (paper, §4):

    listening   −λ_L · mean log π(true impostor | what a crew member saw and heard), a supervised question about the
                world, asked at several points of the discussion
    speaking    a message's reward is the change of the other crew members' mean belief in the true impostor,
                λ_S · mean_j [π_j(impostor | after it) − π_j(impostor | before it)], their beliefs by π itself

and λ_W times the cross-entropy of what a crew member hears next, the world-model loss, is to keep the language alive.
All variants start from the same base model and play the same number of games in the same number of updates:

    base                 the warm start: it knows the language and not the game
    rl                   policy gradient on the win alone
    listen               the listening loss alone, on games that the policy plays itself
    rl_listen, rl_listen_speak, rl_listen_speak_wm (all three terms, the paper's full method)
    silent, honest       not trained: ideal listeners who hear nothing, and ideal listeners of crew members who all name
                         one of those they saw (common/envs/deduction/belief.py)

Differs from the paper:
 1. Nano policies trained from scratch instead of RWKV-1.5B; deduction-v1 instead of a grid of 2 × 3 rooms. Moves, tasks
    and the murder are scripted: only the discussion and the votes are the policy's. Sizes will not carry over.
 2. One discussion of five turns in a fixed order (the paper: 8 turns drawn at random); the game ends with its vote. The
    impostor does not vote; without a strict plurality the crew lose.
 3. The base is warm-started by demonstrators who use the grammar, mean the truth in half of their messages and vote for
    anybody: no deduction is shown. The paper starts from a pretrained language model.
 4. REINFORCE instead of PPO with a learned value: the baseline is the mean over the other games of the update, for a
    speaking reward over the same turn of these games. A win is credited to all turns of its crew, a speaking reward to
    its message alone.
 5. The question of the listening loss is the question for a vote, asked of every crew member before the first and after
    each message. So it teaches votes directly; beliefs are votes' probabilities.
 6. The world-model loss asks each crew member after a random number of messages what the next speaker will say; the paper predicts all
    observations, movements included.
 7. One Adam step for each update's games, its rate falling linearly to 0.
 8. The impostor is the base in training and test. The paper also trains impostors, and lets one crew member be frozen.
 9. λ_L = 3 in every variant with listening; the released script has 0.1 in its run without the speaking reward.
10. Policies are evaluated as trained, at temperature 1; ``greedy_success`` decodes the crew greedily.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from common.config import Evaluation, UnitParams
from common.envs.deduction.world import COLOURS
from common.envs.versions.deduction_v1 import CREW, HEAR, IMPOSTOR, DeductionEnv, role_of
from common.lab import BASE, KEPT_TASKS, Lab, Measured, Trained, Variant
from common.learn.policy_gradient import CreditedTurn, Dialogue, leave_one_out
from common.lm.engine import Engine
from common.lm.policy import LMPolicy
from common.lm.team import TeamPolicy
from common.rng import generator
from common.types import Cost, Task
from papers.social_deduction.maths import (
    Game, bounds, final_state, games, listening_weights, questions, rate_at, records, report, speaking_rewards, step,
)  # fmt: skip

LONGEST = 5
"""Most tokens of a message (ours); grammatical ones have two."""


@dataclass(frozen=True)
class Learn:
    updates: int
    """Of every trained variant."""
    games: int
    """Games per update, each of another world."""
    lr: float
    beta: float
    """Weight of the KL to the base, at every token the crew say or vote."""
    listening: float
    speaking: float
    world: float


@dataclass(frozen=True, kw_only=True)
class Params(UnitParams):
    rl: Learn
    test: Evaluation


@dataclass(frozen=True)
class Terms:
    """Weights of win, listening, speaking reward, world model and KL."""

    win: float
    listening: float
    speaking: float
    world: float
    beta: float


@dataclass(frozen=True)
class Condition(Variant):
    """A crew trained on ``terms``, None for the base; with ``ideal`` listeners its votes are theirs."""

    terms: Terms | None = None
    ideal: bool = False


def variants(p: Params) -> list[Condition]:
    rl = p.rl
    return [
        Condition("silent", ideal=True),
        Condition("honest", ideal=True),
        Condition("base"),
        Condition("rl", Terms(1.0, 0.0, 0.0, 0.0, rl.beta)),
        Condition("listen", Terms(0.0, rl.listening, 0.0, 0.0, rl.beta)),
        Condition("rl_listen", Terms(1.0, rl.listening, 0.0, 0.0, rl.beta)),
        Condition("rl_listen_speak", Terms(1.0, rl.listening, rl.speaking, 0.0, rl.beta)),
        Condition("rl_listen_speak_wm", Terms(1.0, rl.listening, rl.speaking, rl.world, rl.beta)),
    ]


def train(lab: Lab, variant: Condition) -> Trained:
    """Training loop: play games, credit their turns, take one optimiser step."""
    if variant.terms is None:
        return BASE
    p, log = lab.p.rl, lab.curve(variant.name)

    def learn(crew: Engine) -> tuple[Cost, dict]:
        impostor, reference = lab.engine(), lab.engine().model
        optimiser = torch.optim.Adam(crew.model.parameters(), lr=p.lr)
        turns = asked = 0
        for number in range(1, p.updates + 1):
            tasks, episodes = lab.sample(players(crew, impostor), lab.batch(number - 1, p.games), "rl", number)
            found = games(lab.env, tasks, episodes, crew)
            made = lessons(lab.env, found, variant.terms, lab.keys(tasks, "rl", number))
            seen = step(crew, reference, made, optimiser, rate_at(number, p.updates, p.lr))
            measured = report(found)
            seen |= {"reward": measured["success"], "belief": measured[f"belief@{len(COLOURS)}"]}
            log(number, seen | {name: measured[name] for name in ("truthful", "grammatical")})
            turns += sum(len(episode.steps) for episode in episodes)
            asked += sum(game.beliefs.numel() for game in found)
        spent = crew.cost + impostor.cost
        return replace(spent, env_steps=turns, samples=turns, updates=p.updates,
                       scored_tokens=spent.scored_tokens + asked), {}  # fmt: skip

    return lab.training(variant.name, learn)


def players(crew: Engine, impostor: Engine, temperature: float = 1.0) -> TeamPolicy:
    """Two models, each asked for its own turns; ``temperature`` is that of the crew."""
    return TeamPolicy({CREW: LMPolicy(crew, temperature, max_new_tokens=LONGEST),
                       IMPOSTOR: LMPolicy(impostor, max_new_tokens=LONGEST)}, role_of)  # fmt: skip


# -- 1. what each turn of a game is credited with (paper §4) -------------------------------------------------------


def advantages(found: Sequence[Game], terms: Terms) -> tuple[torch.Tensor, torch.Tensor]:
    """([N] of the win, [N, turns] of each message's speaking reward), both beyond the mean of the other N − 1 games,
    and weighed by ``terms``."""
    wins = torch.tensor([game.episode.reward for game in found], dtype=torch.float64)
    said = torch.stack([speaking_rewards(game.beliefs, game.speakers) for game in found])
    return terms.win * leave_one_out(wins[None])[0], terms.speaking * leave_one_out(said[None])[0]


def acted(game: Game, win: float, words: Sequence[float], beta: float) -> list[CreditedTurn]:
    """The crew's messages and votes, their loss a mean over them as that of listening is over its questions, so that
    λ_L weighs one against the other as in the paper. Turns that were cut are not learned from."""
    said, share = len(game.state.said), 1 / (2 * len(game.state.voters))
    return [
        CreditedTurn(step.prompt, step.turn.text, share * (win + (words[k] if k < said else 0.0)), share * beta)
        for k, step in enumerate(game.episode.steps)
        if role_of(step.prompt) == CREW and step.turn.finished
    ]


def listened(env: DeductionEnv, game: Game, weight: float) -> list[CreditedTurn]:
    """The question who the impostor is, with the true answer: to each crew member before the first and after each
    message."""
    asked, true = questions(env, game.state), game.state.world.impostor
    weights = listening_weights(weight, len(asked))
    return [CreditedTurn(prompt, true, w, 0.0) for prompt, w in zip(asked, weights, strict=True)]


def foretold(env: DeductionEnv, game: Game, weight: float, key: int) -> list[CreditedTurn]:
    """The question what the next speaker says, with the true message: to each crew member before a random message of
    another."""
    env.restore(game.state)
    rng, heard, turns = generator(key, "hear"), game.heard, []
    for who in game.state.voters:
        others = [k for k, (speaker, _) in enumerate(heard) if speaker != who]
        k = others[int(rng.integers(len(others)))]
        speaker, text = heard[k]
        asked = env.asked(who, f"{speaker.title()} {HEAR}", after=k)
        turns.append(CreditedTurn(asked, text, weight / len(game.state.voters), 0.0))
    return turns


def lessons(env: DeductionEnv, found: Sequence[Game], terms: Terms, keys: Sequence[int]) -> list[Dialogue]:
    """All that the crew's weights learn from the games of one update, game by game."""
    of_win, of_words = advantages(found, terms)
    made = []
    for game, win, words, key in zip(found, of_win.tolist(), of_words.tolist(), keys, strict=True):
        turns = acted(game, win, words, terms.beta)
        if terms.listening:
            turns += listened(env, game, terms.listening)
        if terms.world:
            turns += foretold(env, game, terms.world, key)
        made.append(tuple(turns))
    return made


# -- 2. games on held-out worlds -----------------------------------------------------------------------------------


def evaluate(lab: Lab, variant: Condition, trained: Trained) -> list[Measured]:
    """The report of ``test.draws`` games of every task, and who wins when the crew decode greedily; for ideal listeners
    what they win in games of the base."""
    p, env, found, crew, impostor = lab.p.test, lab.env, [], lab.engine(trained), lab.engine()
    panels = lab.panels if variant.ideal else lab.panels_for(trained)
    for panel, tasks in panels.items():
        tasks = [whole(task) for task in tasks[: p.tasks]]
        if variant.ideal:
            found.append(Measured(panel, {"success": ideal_wins(lab, panel, tasks)[variant.name]}, len(tasks)))
            continue
        asked, episodes = lab.sample(players(crew, impostor), tasks, "evaluate", group=p.draws)
        played = games(env, asked, episodes, crew)
        _, greedy = lab.sample(players(crew, impostor, 0.0), tasks, "evaluate")
        wins = sum(game.reward for game in greedy) / len(greedy)
        found.append(Measured(panel, report(played) | {"greedy_success": wins}, len(tasks)))
        if panel == lab.p.panels[0]:
            lab.keep(f"dialogues.{variant.name}", records(played[: KEPT_TASKS * p.draws : p.draws]))
    return found


def whole(task: Task) -> Task:
    """The same world with all five turns: some demonstrated discussions stop early."""
    return replace(task, data=task.data | {"turns": len(COLOURS)})


def ideal_wins(lab: Lab, panel: str, tasks: list[Task]) -> dict[str, float]:
    """Win rates of ideal listeners; the impostor in their games is the base, as everywhere."""

    def compute() -> dict[str, float]:
        asked, episodes = lab.sample(players(lab.engine(), lab.engine()), tasks, "evaluate")
        return bounds([final_state(lab.env, task, episode) for task, episode in zip(asked, episodes, strict=True)])

    return lab.once(("ideal", panel), compute)
