"""Discussions of ``deduction-v1`` measured: who won, what was believed when, and what the messages were worth."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import torch

from common.envs.deduction.belief import TRUST, ideal, ideal_win
from common.envs.deduction.world import COLOURS, NOBODY, messages, seen, true_messages
from common.envs.versions.deduction_v1 import CREW, IMPOSTOR, VOTE, DeductionEnv, TalkState
from common.lm.engine import Engine
from common.lm.predict import predictions
from common.rng import generator
from common.types import Message, Task, Trajectory


class Game(NamedTuple):
    """One finished game. ``beliefs`` [4, turns + 1]: what each crew member, in the order of speaking, gave the true
    impostor before the first message and after each one."""

    state: TalkState
    episode: Trajectory
    beliefs: torch.Tensor

    @property
    def heard(self) -> list[tuple[str, str]]:
        return list(zip(self.state.order, self.state.said))

    @property
    def speakers(self) -> list[int | None]:
        """For each message the number of the crew member that spoke it; None for the impostor's."""
        voters = self.state.voters
        return [voters.index(who) if who in voters else None for who, _ in self.heard]


def final_state(env: DeductionEnv, task: Task, episode: Trajectory) -> TalkState:
    """The state in which the episode ended; ``env`` is left there."""
    env.reset(task)
    for step in episode.steps:
        env.step(step.turn.text)
    return env.snapshot()


def moments(env: DeductionEnv, state: TalkState) -> list[tuple[Message, ...]]:
    """The question for a vote to each crew member before the first and after each message, one member after the
    other."""
    env.restore(state)
    return [env.asked(who, VOTE, after=k) for who in state.voters for k in range(len(state.said) + 1)]


ROWS = 240
"""Questions of one pass, those of ten games: what a player read is computed once for all moments it is asked at."""


@torch.inference_mode()
def suspicions(engine: Engine, prompts: Sequence[tuple[Message, ...]]) -> torch.Tensor:
    """[N, 5] the policy's own beliefs: probabilities of voting for each colour, given a vote for any; they sum to 1.

    Raises:
        ValueError: when the tokenizer does not write each colour as one token.
    """
    votes = [engine.action_ids(colour)[:-1] for colour in COLOURS]
    if any(len(ids) > 1 for ids in votes):
        raise ValueError(f"beliefs: votes have the tokens {votes} but must be one each; train the tokenizer on texts "
                         "that name all colours")
    colours = [ids[0] for ids in votes]
    rows, found = [[*engine.prompt_ids(prompt), colours[0]] for prompt in prompts], []
    for at in range(0, len(rows), ROWS):
        some = rows[at : at + ROWS]
        told = predictions(engine.model, some, [[len(row) - 1] for row in some])
        found.append(torch.softmax(told.logits[told.where][:, colours].double(), -1).cpu())
    return torch.cat(found)


def games(env: DeductionEnv, tasks: Sequence[Task], episodes: Sequence[Trajectory], engine: Engine) -> list[Game]:
    """The episodes with the beliefs of the crew's policy ``engine`` at every moment."""
    states = [final_state(env, task, episode) for task, episode in zip(tasks, episodes, strict=True)]
    asked = [moments(env, state) for state in states]
    flat = suspicions(engine, [prompt for prompts in asked for prompt in prompts])
    found, at = [], 0
    for state, episode, prompts in zip(states, episodes, asked, strict=True):
        own = flat[at : at + len(prompts), COLOURS.index(state.world.impostor)]
        found.append(Game(state, episode, own.view(len(state.voters), -1)))
        at += len(prompts)
    return found


def report(found: Sequence[Game]) -> dict[str, float]:
    """Metrics of games (docs/metrics.md): success, vote_acc, belief@k, and of the crew's messages truthful, gain,
    grammatical, form_entropy; ideal_success, were the crew ideal listeners of what was said."""
    votes = [vote == game.state.world.impostor for game in found for vote in game.state.votes]
    result = {"success": fmean(game.episode.success for game in found), "vote_acc": fmean(votes)}
    table = torch.stack([game.beliefs.mean(0) for game in found]).mean(0)
    result |= {f"belief@{k}": float(value) for k, value in enumerate(table)}
    result["ideal_success"] = fmean(ideal_win(game.state.world, game.heard) for game in found)
    return result | spoken(found)


def spoken(found: Sequence[Game]) -> dict[str, float]:
    """What the crew's messages are: shares of all of them, the gain of an ideal listener, and the entropy of their
    forms in nats (a name, nobody, anything else)."""
    truthful, gains, grammatical, forms = [], [], [], Counter()
    for game in found:
        world = game.state.world
        for k, (who, text) in enumerate(game.heard):
            if who == world.impostor:
                continue
            truthful.append(text in true_messages(seen(world, who)))
            grammatical.append(text in messages(who))
            forms["other" if text not in messages(who) else NOBODY if text == NOBODY else "name"] += 1
            gains.append(ideal_gain(game, k))
    shares = [count / len(truthful) for count in forms.values()]
    return {"truthful": fmean(truthful), "gain": fmean(gains), "grammatical": fmean(grammatical),
            "form_entropy": -sum(p * math.log(p) for p in shares)}  # fmt: skip


def ideal_gain(game: Game, k: int) -> float:
    """How much message k raised the belief of the other crew members in the true impostor, were they ideal
    listeners; mean over them, in [−1, 1]."""
    world, (speaker, _) = game.state.world, game.heard[k]
    others = [who for who in world.crew if who != speaker]

    def mean(until: int) -> float:
        heard = game.heard[:until]
        return fmean(ideal(who, seen(world, who), heard, trust=TRUST)[world.impostor] for who in others)

    return mean(k + 1) - mean(k)


def bounds(states: Sequence[TalkState]) -> dict[str, float]:
    """Win rates of ideal listeners after finished games: ``silent``, who heard nothing, and ``honest``, where every crew
    member named one of the two it saw, drawn at random, and the impostor said what it said."""
    silent, told = [], []
    for state in states:
        world, rng = state.world, generator("honest", state.task_id)
        facts = {who: true_messages(seen(world, who))[int(rng.integers(2))] for who in world.crew}
        silent.append(ideal_win(world))
        told.append(ideal_win(world, [(who, facts.get(who, text)) for who, text in zip(state.order, state.said)]))
    return {"silent": fmean(silent), "honest": fmean(told)}


def records(found: Sequence[Game]) -> list[dict]:
    """JSON-able rows, one a turn, to be read by people: who said what (a vote: for whom), whether it is true, and what
    every crew member believed of the true impostor afterwards."""
    rows = []
    for game in found:
        world, said = game.state.world, len(game.state.said)
        for k, step in enumerate(game.episode.steps):
            talking = k < said
            who = game.state.order[k] if talking else game.state.voters[k - said]
            text = game.state.said[k] if talking else game.state.votes[k - said]
            right = text in true_messages(seen(world, who)) if talking else text == world.impostor
            rows.append({
                "task": game.episode.task_id, "turn": k + 1, "who": who,
                "role": IMPOSTOR if who == world.impostor else CREW, "kind": "say" if talking else "vote",
                "text": text, "right": right, "impostor": world.impostor, "prompt": step.prompt[-1]["content"],
                "before": game.beliefs[:, min(k, said)].tolist(), "after": game.beliefs[:, min(k + 1, said)].tolist(),
                "listeners": list(game.state.voters),
            })  # fmt: skip
    return rows
