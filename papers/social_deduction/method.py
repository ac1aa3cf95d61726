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
    listen               the listening loss alone, on games the policy plays itself
    rl_listen, rl_listen_speak, rl_listen_speak_wm (all three terms, the paper's full method)
    silent, honest       not trained: ideal listeners who hear nothing, and ideal listeners of crew members who all name
                         one of those they saw (common/envs/deduction/belief.py)

Differs from the paper:
 1. Nano policies trained from scratch instead of RWKV-1.5B; deduction-v1 instead of a grid of 2 × 3 rooms. Moves, tasks
    and the murder are scripted: only the discussion and the votes are the policy's. Sizes will not carry over.
 2. One discussion of five turns, one a player in a fixed order (the paper: 8 turns drawn at random); the game ends with
    its vote. The impostor does not vote; without a strict plurality the crew lose.
 3. The base is warm-started by demonstrators that speak the grammar, mean the truth in half of their messages, else repeat
    others or say anything, and vote for anybody: no deduction is shown. The paper starts from a pretrained language model, in the released code
    further trained to predict the impostor in games without a discussion.
 4. REINFORCE instead of PPO with a learned value: the baseline is the mean over the other games of the update, for a
    message's speaking reward over the same turn of these games (worlds are alike up to the players' names). A game's win is credited to all turns of its crew, a
    speaking reward to its message alone.
 5. The question of the listening loss is the question for a vote. So the loss teaches votes directly, which favours
    ``listen`` and ``rl_listen``; beliefs are votes' probabilities. It is asked of every crew member before the first
    and after each message, each question weighing the same.
 6. The world-model loss asks each crew member at a random moment what the next speaker will say ("… White hear" →
    "blue"), a question the base was never asked; the paper predicts all observations, movements included.
 7. One Adam step for each update's games, its rate falling linearly to 0.
 8. The impostor is the base in training and test. The paper also trains impostors against the crew, and lets one crew
    member of each game be a frozen one.
 9. λ_L = 3 in every variant with listening. The released script has 3 in the full method and 0.1 in its run without the
    speaking reward, which would confound the comparison of the two.
10. Policies are evaluated as trained, at temperature 1; ``greedy_success`` decodes the crew greedily.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from common.envs import load_panel, make
from common.envs.deduction.world import COLOURS
from common.envs.versions.deduction_v1 import CREW, HEAR, IMPOSTOR, DeductionEnv, role_of
from common.evaluate.discussion import Game, bounds, final_state, games, moments, records, report
from common.learn.batches import encode
from common.learn.influence import listening_weights, speaking_rewards
from common.learn.policy_gradient import CreditedTurn, Dialogue, leave_one_out, token_kls
from common.lm.engine import Engine
from common.lm.models import load_model, save_model
from common.lm.policy import LMPolicy
from common.lm.predict import predictions
from common.lm.team import TeamPolicy
from common.rng import derive, generator
from common.search.rollout import rollout
from common.track.lines import write_lines
from common.track.rows import MetricRow, cost_of
from common.types import Cost, Task, Trajectory


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


@dataclass(frozen=True)
class Test:
    tasks: int
    draws: int
    """Games of each task."""


@dataclass(frozen=True)
class Params:
    rl: Learn
    test: Test
    panels: tuple[str, ...]


@dataclass(frozen=True)
class Variant:
    """One training condition: the weights of win, listening, speaking reward, world model and KL."""

    name: str
    win: float
    listening: float
    speaking: float
    world: float
    beta: float


def variants(p: Params) -> list[Variant]:
    rl = p.rl
    return [
        Variant("rl", 1.0, 0.0, 0.0, 0.0, rl.beta),
        Variant("listen", 0.0, rl.listening, 0.0, 0.0, rl.beta),
        Variant("rl_listen", 1.0, rl.listening, 0.0, 0.0, rl.beta),
        Variant("rl_listen_speak", 1.0, rl.listening, rl.speaking, 0.0, rl.beta),
        Variant("rl_listen_speak_wm", 1.0, rl.listening, rl.speaking, rl.world, rl.beta),
    ]


WARMUP = 4
"""Updates of linear warm-up at the beginning (ours)."""
TOGETHER = 4
"""Games of one pass (ours): what one core reads at once without leaving its caches."""
LONGEST = 5
"""Most tokens of a message (ours); grammatical ones have two."""


# -- 1. a game played, and what each of its turns is credited with (paper §4) -------------------------------------


def played(
    env: DeductionEnv, tasks: Sequence[Task], crew: Engine, impostor: Engine, keys: Sequence[int], *,
    temperature: float = 1.0,
) -> list[Trajectory]:
    """One game of each task. Crew and impostor are two models in one process, each asked for its own turns."""
    team = TeamPolicy({CREW: LMPolicy(crew, temperature, max_new_tokens=LONGEST),
                       IMPOSTOR: LMPolicy(impostor, max_new_tokens=LONGEST)}, role_of)  # fmt: skip
    return rollout(env, list(tasks), team, keys=list(keys))


def advantages(found: Sequence[Game], variant: Variant) -> tuple[torch.Tensor, torch.Tensor]:
    """([N] of the win, [N, turns] of each message's speaking reward), both beyond the mean of the other N − 1 games,
    and weighed as ``variant`` says."""
    wins = torch.tensor([game.episode.reward for game in found], dtype=torch.float64)
    said = torch.stack([speaking_rewards(game.beliefs, game.speakers) for game in found])
    return variant.win * leave_one_out(wins[None])[0], variant.speaking * leave_one_out(said[None])[0]


def acted(game: Game, win: float, words: Sequence[float], beta: float) -> list[CreditedTurn]:
    """The crew's messages and votes, their loss a mean over them as that of listening is over its questions, so that λ_L
    weighs one against the other as in the paper. Turns that were cut are not learned from."""
    said, share = len(game.state.said), 1 / (2 * len(game.state.voters))
    return [
        CreditedTurn(step.prompt, step.turn.text, share * (win + (words[k] if k < said else 0.0)), share * beta)
        for k, step in enumerate(game.episode.steps)
        if role_of(step.prompt) == CREW and step.turn.finished
    ]


def listened(env: DeductionEnv, game: Game, weight: float) -> list[CreditedTurn]:
    """The question who the impostor is, with the true answer: to each crew member at every moment of the discussion."""
    asked, true = moments(env, game.state), game.state.world.impostor
    weights = listening_weights(weight, len(asked))
    return [CreditedTurn(prompt, true, w, 0.0) for prompt, w in zip(asked, weights, strict=True)]


def foretold(env: DeductionEnv, game: Game, weight: float, key: int) -> list[CreditedTurn]:
    """The question what the next speaker says, with what was said: to each crew member before a random message of
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


def lessons(env: DeductionEnv, found: Sequence[Game], variant: Variant, keys: Sequence[int]) -> list[Dialogue]:
    """All that the crew's weights learn from the games of one update, game by game."""
    of_win, of_words = advantages(found, variant)
    made = []
    for game, win, words, key in zip(found, of_win.tolist(), of_words.tolist(), keys, strict=True):
        turns = acted(game, win, words, variant.beta)
        if variant.listening:
            turns += listened(env, game, variant.listening)
        if variant.world:
            turns += foretold(env, game, variant.world, key)
        made.append(tuple(turns))
    return made


# -- 2. one update -------------------------------------------------------------------------------------------------


def loss_of(model: PreTrainedModel, reference: PreTrainedModel, tokenizer: Tokenizer, told: Dialogue) -> torch.Tensor:
    """Σ_turns −w · log π(answer) + β · KL(π ‖ π_ref along it), with gradients into ``model``: the loss of
    :func:`common.learn.policy_gradient.policy_gradient` in one pass. A player's questions share what it read."""
    prompts, answers = encode("update", tokenizer, [turn.prompt for turn in told], [turn.answer for turn in told],
                              max_length=model.config.max_position_embeddings)  # fmt: skip
    rows = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
    places = [range(len(prompt), len(row)) for prompt, row in zip(prompts, rows, strict=True)]
    found = predictions(model, rows, places)
    weight = torch.tensor([turn.advantage for turn in told])[found.row]
    loss = -(weight * found.logps()).sum()
    held = [i for i, turn in enumerate(told) if turn.beta > 0]
    if held:
        with torch.no_grad():
            fixed = predictions(reference, [rows[i] for i in held], [places[i] for i in held])
        beta = torch.tensor([turn.beta for turn in told])[found.row]
        kls = token_kls(found.logits[found.where[beta > 0]], fixed.logits[fixed.where])
        loss = loss + (beta[beta > 0] * kls).sum()
    return loss


def update(
    crew: Engine, reference: PreTrainedModel, made: Sequence[Dialogue], optimiser: torch.optim.Optimizer, rate: float
) -> dict[str, float]:
    """One step of the crew's weights, in place, on the mean loss of all games."""
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad(set_to_none=True)
    total = 0.0
    for at in range(0, len(made), TOGETHER):
        told = tuple(turn for one in made[at : at + TOGETHER] for turn in one)
        if not told:  # a crew that ends none of its turns
            continue
        loss = loss_of(crew.model, reference, crew.tokenizer, told) / len(made)
        loss.backward()
        total += float(loss.detach())
    norm = float(torch.nn.utils.clip_grad_norm_(crew.model.parameters(), 1.0))
    if not math.isfinite(total + norm):
        raise FloatingPointError(f"update: loss {total} and gradient norm {norm} must be finite; lower rl.lr")
    optimiser.step()
    return {"loss": total, "grad_norm": norm, "lr": rate}


def rate_at(number: int, updates: int, lr: float) -> float:
    """The learning rate of update ``number`` (from 1): linear warm-up, then linearly towards 0."""
    return lr * min(number / (WARMUP + 1), 1 - (number - 1) / updates)


# -- 3. the unit: all variants, resumable one by one ----------------------------------------------------------------


class Experiment:
    """One unit at work: environment, tasks, and stages that are computed once and then read back."""

    def __init__(self, unit) -> None:
        self.unit, self.run, self.p, self.seed = unit, unit.run, unit.params, unit.seed
        self.env = make(unit.env, unit.data)
        panel = load_panel(unit.data, f"{unit.env}/train")
        self.tasks = [panel[i] for i in generator(self.seed, "tasks").permutation(len(panel))]
        self.panels = {name: load_panel(unit.data, f"{unit.env}/{name}")[: self.p.test.tasks] for name in self.p.panels}

    def engine(self, stage: str | None = None) -> Engine:
        """The crew that ``stage`` saved; None is the base model."""
        return Engine(*load_model(self.run.stage_path(stage) if stage else self.unit.base))

    def worlds(self, update: int) -> tuple[list[Task], list[int]]:
        """Tasks of one update (from 1) and their keys; the same for all variants."""
        n = self.p.rl.games
        tasks = [self.tasks[i % len(self.tasks)] for i in range((update - 1) * n, update * n)]
        return tasks, [derive(self.seed, "rl", update, i, task.id) for i, task in enumerate(tasks)]

    def train(self, variant: Variant) -> tuple[str, Cost]:
        """Train the crew of one variant; the stage that holds it, and what it cost."""
        stage = f"train.{variant.name}"

        def compute() -> dict:
            crew, impostor, (reference, _) = self.engine(), self.engine(), load_model(self.unit.base)
            optimiser = torch.optim.Adam(crew.model.parameters(), lr=self.p.rl.lr)
            updates, turns, questions = self.p.rl.updates, 0, 0
            for number in range(1, updates + 1):
                tasks, keys = self.worlds(number)
                episodes = played(self.env, tasks, crew, impostor, keys)
                found = games(self.env, tasks, episodes, crew)
                turns += sum(len(episode.steps) for episode in episodes)
                questions += sum(game.beliefs.numel() for game in found)
                made = lessons(self.env, found, variant, keys)
                seen = update(crew, reference, made, optimiser, rate_at(number, updates, self.p.rl.lr))
                told = report(found)
                seen |= {"reward": told["success"]} | {name: told[name] for name in ("truthful", "grammatical")}
                seen |= {"belief": told[f"belief@{len(COLOURS)}"]}
                self.run.log(variant.name, number, {f"r1/train/{k}": v for k, v in seen.items()})
            with self.run.stage_dir(stage) as folder:
                save_model(crew.model, crew.tokenizer, folder)
            spent = crew.cost + impostor.cost
            spent = replace(spent, env_steps=turns, samples=turns, updates=updates,
                            scored_tokens=spent.scored_tokens + questions)  # fmt: skip
            return {"cost": cost_of(spent)}

        return stage, Cost(**self.run.stage(stage, compute)["cost"])

    # evaluation

    def keys(self, tasks: Sequence[Task]) -> list[int]:
        return [derive(self.seed, "evaluate", i, task.id) for i, task in enumerate(tasks)]

    def evaluate(self, name: str, stage: str | None) -> dict:
        """The report of ``test.draws`` games of every task, and who wins when the crew decode greedily; some games are
        kept to be read."""

        def compute() -> dict:
            crew, impostor, result = self.engine(stage), self.engine(), {}
            for panel, tasks in self.panels.items():
                asked = [task for task in tasks for _ in range(self.p.test.draws)]
                found = games(self.env, asked, played(self.env, asked, crew, impostor, self.keys(asked)), crew)
                greedy = played(self.env, tasks, crew, impostor, self.keys(tasks), temperature=0.0)
                result[panel] = report(found)
                result[panel]["greedy_success"] = sum(game.reward for game in greedy) / len(greedy)
                if panel == self.p.panels[0]:
                    kept = found[: 60 * self.p.test.draws : self.p.test.draws]
                    write_lines(self.run.artifacts / f"dialogues.{name}.jsonl", records(kept))
            flat = {f"{panel}/{k.replace('@', '_')}": v for panel, found in result.items() for k, v in found.items()}
            self.run.log(name, 0, flat)
            return result

        return self.run.stage(f"eval.{name}", compute)

    @cached_property
    def _bounds(self) -> dict[str, dict[str, float]]:
        """By panel, win rates of ideal listeners; the impostor in them is the base, as everywhere."""

        def compute() -> dict:
            result = {}
            for panel, tasks in self.panels.items():
                told = played(self.env, tasks, self.engine(), self.engine(), self.keys(tasks))
                states = [final_state(self.env, task, episode) for task, episode in zip(tasks, told, strict=True)]
                result[panel] = bounds(states)
            return result

        return self.run.stage("eval.bounds", compute)


def run(unit) -> list[MetricRow]:
    """Train and evaluate every variant of one unit; writes its metric rows and marks it finished."""
    if unit.run.finished:
        return unit.run.rows()
    torch.set_num_threads(1)  # bit-identical results whatever the number of workers
    work, rows = Experiment(unit), []

    def add(variant: str, found: dict[str, dict[str, float]], cost: Cost) -> None:
        rows.extend(
            MetricRow(paper="social_deduction", env=unit.env, profile=unit.profile, scale="nano", variant=variant,
                      seed=unit.seed, panel=f"{unit.env}/{panel}", metric=metric, value=value,
                      n=len(work.panels[panel]), cost=cost_of(cost))  # fmt: skip
            for panel, metrics in found.items()
            for metric, value in metrics.items()
        )

    for bound in ("silent", "honest"):
        add(bound, {panel: {"success": found[bound]} for panel, found in work._bounds.items()}, Cost())
    add("base", work.evaluate("base", None), Cost())
    for variant in variants(work.p):
        stage, cost = work.train(variant)
        add(variant.name, work.evaluate(variant.name, stage), cost)
    unit.run.write_rows(rows)
    unit.run.finish()
    return rows
