"""Values of steps: those of a process reward model, a language model with a head, and those that follow from the rules of the game."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file, save_file

from common.base import CRITIC_QUESTION
from common.envs.contract import Snapshot
from common.lab import Lab, Trained
from common.learn.value import ValueHead, predict_values
from common.lm.engine import Engine
from common.lm.models import save_model
from common.search.star import Values
from common.types import Message

HEAD = "head.safetensors"


def load(lab: Lab, trained: Trained) -> tuple[Engine, ValueHead]:
    """A PRM's model and head. It begins as the base model's own verdict: σ(logit of "yes" − logit of "no")."""
    engine = lab.engine(trained)
    head = ValueHead(engine.model.config.hidden_size)
    if trained.stage:
        head.load_state_dict(load_file(lab.folder(trained) / HEAD))
    else:
        yes, no = (engine.tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in ("yes", "no"))
        words = engine.model.get_output_embeddings().weight.detach()
        head.linear.weight.data.copy_((words[yes] - words[no])[None])
    return engine, head


def learned(lab: Lab, trained: Trained) -> Values:
    engine, head = load(lab, trained)

    def values(prompts: Sequence[tuple[Message, ...]], actions: Sequence[str], _: Sequence[Snapshot]) -> list[float]:
        asked = [question(*one) for one in zip(prompts, actions, strict=True)]
        return predict_values(engine.model, head, engine.tokenizer, asked, [None] * len(asked)) if asked else []

    return values


def question(prompt: tuple[Message, ...], action: str) -> tuple[Message, ...]:
    """What a PRM reads of a step: the base model was shown verdicts after these words."""
    return (*prompt, {"role": "assistant", "content": action}, {"role": "user", "content": CRITIC_QUESTION})


def ideal(lab: Lab) -> Values:
    """What :func:`common.search.star.inferred` says of a step in a tree that holds every way to go on: k/n for the k-th of n steps if the target can
    still be reached, else about 0."""

    def value(state: Snapshot, action: str) -> float:
        before = len(state.taken)
        return (before + 1) / (before + len(state.rest) - 1) * (lab.env.q(state, action) > 0)

    return lambda _, actions, states: [value(*one) for one in zip(states, actions, strict=True)]


def save(engine: Engine, head: ValueHead, folder: Path) -> None:
    save_model(engine.model, engine.tokenizer, folder)
    save_file(dict(head.state_dict()), folder / HEAD)
