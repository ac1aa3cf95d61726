"""Discussions of ``deduction-v1``: credit of a message by the change of its listeners' beliefs (Sarkar et al. 2025,
arXiv:2502.06060, §4), beliefs of the policy and of ideal listeners, and metrics of games."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import torch
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from common.envs.deduction.belief import TRUST, ideal, ideal_win
from common.envs.deduction.world import COLOURS, NOBODY, messages, seen, true_messages
from common.envs.versions.deduction_v1 import CREW, IMPOSTOR, VOTE, DeductionEnv, TalkState
from common.learn.batches import encode
from common.learn.policy_gradient import Dialogue, token_kls
from common.lm.engine import Engine
from common.lm.predict import predictions
from common.rng import generator
from common.types import Message, Task, Trajectory

WARMUP = 4
"""Updates of linear warm-up at the beginning (ours)."""
TOGETHER = 4
"""Games of one pass (ours): what one core reads at once without leaving its caches."""


def speaking_rewards(beliefs: torch.Tensor, speakers: Sequence[int | None]) -> torch.Tensor:
    """[K] mean change of the listeners' belief in the truth that each of K messages brought about, in [−1, 1].

    Args:
        beliefs: [L, K + 1] probability that each of L listeners gives to the truth, before the first message and
            after each message.
        speakers: for each message the listener that spoke it, whose own belief does not count; None where nobody
            among the listeners did.

    Raises:
        ValueError: when a speaker is the only listener, or the shapes disagree.
    """
    count, times = beliefs.shape
    if times != len(speakers) + 1:
        raise ValueError(f"speaking rewards: beliefs at {times} times beside {len(speakers)} messages must be one more "
                         "than messages; give the belief before the first one too")
    changes, rewards = beliefs[:, 1:] - beliefs[:, :-1], []
    for k, speaker in enumerate(speakers):
        others = [i for i in range(count) if i != speaker]
        if not others:
            raise ValueError(f"speaking rewards: message {k} has no listener but its speaker; at least one is needed")
        rewards.append(changes[others, k].mean())
    return torch.stack(rewards) if rewards else beliefs.new_zeros(0)


def listening_weights(weight: float, questions: int) -> list[float]:
    """What each of ``questions`` questions about the truth weighs in a game's loss, so that the loss is ``weight``
    times the mean cross-entropy of the true answers. A credited turn with advantage w and β = 0 has the loss
    −w · log π(answer), which is that term."""
    return [weight / questions] * questions


# -- one update ----------------------------------------------------------------------------------------------------


def loss_of(model: PreTrainedModel, reference: PreTrainedModel, tokenizer: Tokenizer, turns: Dialogue) -> torch.Tensor:
    """Σ_turns −w · log π(answer) + β · KL(π ‖ π_ref along it), with gradients into ``model``: the loss of
    :func:`common.learn.policy_gradient.policy_gradient` in one pass. A player's questions share what it read."""
    prompts, answers = encode("step", tokenizer, [turn.prompt for turn in turns], [turn.answer for turn in turns],
                              max_length=model.config.max_position_embeddings)  # fmt: skip
    rows = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
    places = [range(len(prompt), len(row)) for prompt, row in zip(prompts, rows, strict=True)]
    found = predictions(model, rows, places)
    weight, beta = torch.tensor([[turn.advantage, turn.beta] for turn in turns], device=found.row.device)[found.row].T
    loss = -(weight * found.logps()).sum()
    held = [i for i, turn in enumerate(turns) if turn.beta > 0]
    if held:
        with torch.no_grad():
            fixed = predictions(reference, [rows[i] for i in held], [places[i] for i in held])
        kls = token_kls(found.logits[found.where[beta > 0]], fixed.logits[fixed.where])
        loss = loss + (beta[beta > 0] * kls).sum()
    return loss


def step(
    crew: Engine, reference: PreTrainedModel, made: Sequence[Dialogue], optimiser: torch.optim.Optimizer, rate: float
) -> dict[str, float]:
    """One step of the crew's weights, in place, on the mean loss of all games."""
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad(set_to_none=True)
    total = 0.0
    for at in range(0, len(made), TOGETHER):
        turns = tuple(turn for one in made[at : at + TOGETHER] for turn in one)
        if not turns:  # a crew that ends none of its turns
            continue
        loss = loss_of(crew.model, reference, crew.tokenizer, turns) / len(made)
        loss.backward()
        total += float(loss.detach())
    norm = float(torch.nn.utils.clip_grad_norm_(crew.model.parameters(), 1.0))
    if not math.isfinite(total + norm):
        raise FloatingPointError(f"step: loss {total} and gradient norm {norm} must be finite; lower rl.lr")
    optimiser.step()
    return {"loss": total, "grad_norm": norm, "lr": rate}


def rate_at(number: int, updates: int, lr: float) -> float:
    """The learning rate of update ``number`` (from 1): linear warm-up, then linearly towards 0."""
    return lr * min(number / (WARMUP + 1), 1 - (number - 1) / updates)


# -- games and beliefs ---------------------------------------------------------------------------------------------


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


def questions(env: DeductionEnv, state: TalkState) -> list[tuple[Message, ...]]:
    """The question for a vote to each crew member before the first and after each message, one member after the
    other."""
    env.restore(state)
    return [env.asked(who, VOTE, after=k) for who in state.voters for k in range(len(state.said) + 1)]


ROWS = 240
"""Questions of one pass, those of ten games: what a player read is computed once for all questions it is asked."""


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
        predicted = predictions(engine.model, some, [[len(row) - 1] for row in some])
        found.append(torch.softmax(predicted.logits[predicted.where][:, colours].double(), -1).cpu())
    return torch.cat(found)


def games(env: DeductionEnv, tasks: Sequence[Task], episodes: Sequence[Trajectory], engine: Engine) -> list[Game]:
    """The episodes as games, with the beliefs of the crew's policy ``engine`` before the first and after each message."""
    states = [final_state(env, task, episode) for task, episode in zip(tasks, episodes, strict=True)]
    asked = [questions(env, state) for state in states]
    flat = suspicions(engine, [prompt for prompts in asked for prompt in prompts])
    found, at = [], 0
    for state, episode, prompts in zip(states, episodes, asked, strict=True):
        own = flat[at : at + len(prompts), COLOURS.index(state.world.impostor)]
        found.append(Game(state, episode, own.view(len(state.voters), -1)))
        at += len(prompts)
    return found


# -- metrics -------------------------------------------------------------------------------------------------------


def report(found: Sequence[Game]) -> dict[str, float]:
    """Metrics of games (docs/metrics.md): success, vote_acc, belief@k, and of the crew's messages truthful, gain,
    grammatical, form_entropy; ideal_success, were the crew ideal listeners of the messages."""
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
    """Win rates of ideal listeners after finished games: ``silent``, who heard nothing, and ``honest``, where every
    crew member named one of the two it saw, drawn at random, and the impostor's messages stay as they were."""
    silent, honest = [], []
    for state in states:
        world, rng = state.world, generator("honest", state.task_id)
        facts = {who: true_messages(seen(world, who))[int(rng.integers(2))] for who in world.crew}
        silent.append(ideal_win(world))
        honest.append(ideal_win(world, [(who, facts.get(who, text)) for who, text in zip(state.order, state.said)]))
    return {"silent": fmean(silent), "honest": fmean(honest)}


def records(found: Sequence[Game]) -> list[dict]:
    """JSON-able rows, one a turn, to be read by people: player and message (or vote), whether it is true, and what
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
