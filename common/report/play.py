"""Ask a trained policy from a notebook cell: give it a task of your own, see its answers, how often each comes, and which are right.

    from common.report.play import ask
    ask("countdown-worked-v1", numbers=[14, 5, 3], target=16)                       # the environment's base model
    ask("countdown-worked-v1", numbers=[14, 5, 3], target=16, weights="runs/sharpening/KEY/stages/train.sharpen")
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from common.config import ConfigError, hint
from common.envs import ENV_IDS, PanelError, load_panel, make
from common.envs.answers import AnswerEnv
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
    if env_id not in ENV_IDS:
        raise ConfigError(f'"{env_id}" is no environment; {hint(env_id, ENV_IDS)}')
    try:
        example = load_panel(root / "data", f"{env_id}/train")[0].data
    except PanelError as missing:
        raise NothingToAsk(str(missing)) from missing
    if set(example) != set(task):
        raise ConfigError(f"a task of {env_id} has {', '.join(example)}, and {', '.join(task) or 'nothing'} was given; for example {json.dumps(example)}")
    folder = root / weights if weights else base_dir(root, env_id, "cpu", seed=seed)
    if folder is None or not (folder / "config.json").exists():
        raise NothingToAsk(f"there is no model in {weights or f'models/{env_id}'}; make data fetches base models, a run leaves trained ones in "
                          "runs/PAPER/KEY/stages/train.NAME")  # fmt: skip
    env = make(env_id, root / "data")
    env = env.dialogue(1, window=1) if isinstance(env, AnswerEnv) else env
    asked = [Task("asked", env_id, "asked", task)] * (samples if temperature else 1)
    policy = LMPolicy(Engine(*load_model(folder)), temperature=temperature, max_new_tokens=tokens)
    episodes = rollout(env, asked, policy, keys=list(range(len(asked))))
    env.reset(asked[0])
    said = Counter((" ; ".join(step.turn.text for step in one.steps), one.reward) for one in episodes)
    lines = [(code_cell(text, 120), times, f"{reward:g}") for (text, reward), times in said.most_common()]
    say(code(env.prompt()[-1]["content"]), markdown(("answer", "times", "reward"), lines, numbers=2),
        f"{sum(one.success for one in episodes)} of {len(episodes)} right.")  # fmt: skip

