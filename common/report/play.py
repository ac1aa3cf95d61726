"""Ask a trained policy from a notebook cell, or play an episode beside it.

    from common.report.play import ask, play
    ask("countdown-worked-v1", numbers=[14, 5, 3], target=16)                       # the environment's base model
    ask("countdown-worked-v1", numbers=[14, 5, 3], target=16, weights="runs/sharpening/KEY/stages/train.sharpen")
    game = play("shop-v1")                                                          # its actions, how likely and how good each is
    game.step(1)                                                                    # the first of them; or its text
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.config import ConfigError, hint
from common.envs import ENV_IDS, PanelError, load_panel, make
from common.envs.answers import AnswerEnv
from common.envs.contract import Env
from common.lm.engine import Engine
from common.lm.models import load_model
from common.lm.policy import LMPolicy
from common.report.examples import code_cell
from common.report.show import code, say
from common.report.tables import markdown
from common.search.rollout import rollout
from common.sweep.unit import base_dir, project_root
from common.types import Task


class NothingToAsk(ConfigError):
    """The panels or the weights are not on this machine."""


def ask(
    env_id: str, *, weights: str = "", seed: int = 0, samples: int = 16, temperature: float = 1.0, tokens: int = 24,
    root: Path | None = None, **task: Any,
) -> None:
    """Display what a policy answers to a ``task`` of one's own: each different episode of ``samples``, how often it came, its reward.

    ``weights`` is a folder of trained ones, from the project's root; "" the base model of ``env_id``, of ``seed`` where it has several.
    ``temperature`` 0 asks once, greedily; ``tokens`` is the most that a turn has. In an environment of whole answers one is asked for.

    Raises:
        ConfigError: for an unknown environment or a task that lacks a field, with those there are.
        NothingToAsk: panels or weights are not there, with the next step.
    """
    root = project_root() if root is None else root
    asked = [_task(root, env_id, task, 0)] * (samples if temperature else 1)
    policy = LMPolicy(_engine(root, env_id, weights, seed), temperature=temperature, max_new_tokens=tokens)
    env = make(env_id, root / "data")
    env = env.dialogue(1, window=1) if isinstance(env, AnswerEnv) else env
    episodes = rollout(env, asked, policy, keys=list(range(len(asked))))
    env.reset(asked[0])
    said = Counter((" ; ".join(step.turn.text for step in one.steps), one.reward) for one in episodes)
    lines = [(code_cell(text, 120), times, f"{reward:g}") for (text, reward), times in said.most_common()]
    say(code(env.prompt()[-1]["content"]), markdown(("answer", "times", "reward"), lines, numbers=2),
        f"{sum(one.success for one in episodes)} of {len(episodes)} right.")  # fmt: skip


class Game:
    """An episode that a reader plays: a cell shows the state, what a policy would do in it, and what that is worth.

    Listed are the actions that the environment names and those that the policy proposes, the likeliest first, with the policy's
    probability of exactly this text and the exact Q*.
    """

    def __init__(self, env: Env, task: Task, engine: Engine, *, proposals: int = 8, tokens: int = 24) -> None:
        self.env, self._engine, self._proposals, self._tokens = env, engine, proposals, tokens
        self.seen, self.played = env.reset(task), []
        self.table = self._look()

    def step(self, action: int | str) -> Game:
        """Take an action, by its number in the table or by its text. ConfigError for a number that is not in the table."""
        if isinstance(action, int) and not 1 <= action <= len(self.table):
            raise ConfigError(f"there is no action {action}; the table has {len(self.table)}")
        self.played.append(self.table[action - 1][0] if isinstance(action, int) else action)
        self.seen = self.env.step(self.played[-1])
        self.table = self._look()
        return self

    def _look(self) -> list[tuple[str, float, float]]:
        """(action, the policy's probability, Q*), the likeliest first; none once the episode is over."""
        if self.seen.done:
            return []
        prompt, now = self.env.prompt(), self.env.snapshot()
        [proposed] = self._engine.sample([prompt], [len(self.played)], n=self._proposals, max_new_tokens=self._tokens)
        actions = list(dict.fromkeys([*self.env.actions(), *(turn.text for turn in proposed if turn.finished)]))
        [scores] = self._engine.score([prompt], [actions])
        lines = [(action, math.exp(score), self.env.q(now, action)) for action, score in zip(actions, scores, strict=True)]
        return sorted(lines, key=lambda line: -line[1])

    def _repr_markdown_(self) -> str:
        path = f"Played: {', '.join(code_cell(text) for text in self.played)}." if self.played else ""
        if self.seen.done:
            return "\n\n".join([code(self.seen.text), f"The episode is over, with reward {self.seen.reward:g}.", path])
        lines = [(k, code_cell(action), f"{probability:.1%}", f"{q:.3f}") for k, (action, probability, q) in enumerate(self.table, start=1)]
        worth = f"The state is worth V* = {self.env.value(self.env.snapshot()):.3f}."
        return "\n\n".join([code(self.env.prompt()[-1]["content"]), markdown(("", "action", "policy", "Q*"), lines, numbers=2), f"{worth} {path}"])


def play(env_id: str, *, number: int = 0, weights: str = "", seed: int = 0, root: Path | None = None, **task: Any) -> Game:
    """A game of ``env_id`` on task ``number`` of its training panel, or on a ``task`` of one's own, beside the policy of ``weights``;
    these, ``seed`` and what is raised are as in :func:`ask`."""
    root = project_root() if root is None else root
    return Game(make(env_id, root / "data"), _task(root, env_id, task, number), _engine(root, env_id, weights, seed))


def _task(root: Path, env_id: str, given: Mapping[str, Any], number: int) -> Task:
    """The task ``given``, or one of the training panel where no field is."""
    if env_id not in ENV_IDS:
        raise ConfigError(f'"{env_id}" is no environment; {hint(env_id, ENV_IDS)}')
    try:
        panel = load_panel(root / "data", f"{env_id}/train")
    except PanelError as missing:
        raise NothingToAsk(str(missing)) from missing
    if not given:
        return panel[number % len(panel)]
    if set(panel[0].data) != set(given):
        raise ConfigError(f"a task of {env_id} has {', '.join(panel[0].data)}, and {', '.join(given)} was given; for example {json.dumps(panel[0].data)}")
    return Task("asked", env_id, "asked", dict(given))


def _engine(root: Path, env_id: str, weights: str, seed: int) -> Engine:
    folder = root / weights if weights else base_dir(root, env_id, "cpu", seed=seed)
    if folder is None or not (folder / "config.json").exists():
        raise NothingToAsk(f"there is no model in {weights or f'models/{env_id}'}; make data fetches base models, a run leaves trained ones in "
                           "runs/PAPER/KEY/stages/train.NAME")  # fmt: skip
    return Engine(*load_model(folder))
