"""Probe of language models: sampling, scoring and judging by each backend, and predictions in training."""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from common.lm import native
from common.lm.adapters import adapters, add_adapters, load_adapters, merge_adapters, save_adapters
from common.lm.device import on_device, placed
from common.lm.engine import Engine
from common.lm.models import load_model, save_model
from common.lm.policy import LMPolicy
from common.lm.predict import passes, predictions
from common.lm.team import TeamPolicy
from common.probes import NotAttestable
from common.probes.tiny import CONTEXT, ask, model, one_thread, spread, tensor, tokenizer
from common.types import Cost, Turn

PROMPTS = [ask("the red box 3"), ask("the green box 14 is left you"), ask("the green box 14 is left it"),
           ask("where is it", "the blue box 27", "good?"), ask("the red box 3")]  # fmt: skip
"""Of several lengths; two begin alike, two are equal."""
KEYS = [11, 12, 13, 14, 15]
ACTIONS = [["left me", "right"], ["below us"], ["below us", "yes", "no"], ["above"], ["left me"]]
BACKENDS = ("native", "torch", "transformers")


def probe() -> dict[str, float | str]:
    """See :mod:`common.probes`. NotAttestable without a C compiler, since units are run by its code where there is one."""
    if isinstance(native.library(), str):
        raise NotAttestable(native.library())
    with one_thread():
        tokens = tokenizer()
        lm = model(tokens, steps=10)
        values = {"tokens": repr(tokens(["the red box 158", "ünknown\n"])["input_ids"]),
                  "tokens.split": repr(tokenizer(split_digits=True)(["the red box 158"])["input_ids"])}  # fmt: skip
        for backend in BACKENDS:
            with _backend(backend):
                values |= _answers(backend, lm, tokens)
        with _backend("native"), _interruptible():
            values |= _turns("interruptible", Engine(lm, tokens).sample(PROMPTS[:3], KEYS[:3], n=2, max_new_tokens=6))
        values |= _grouped(tokens) | _changed(lm, tokens) | _adapters(lm, tokens) | _training(lm, tokens) | _policies(lm, tokens)
        return values | _saved(lm, tokens)


@contextmanager
def _backend(name: str) -> Iterator[None]:
    before = os.environ.get("LAB_BACKEND")
    os.environ["LAB_BACKEND"] = name
    try:
        yield
    finally:
        os.environ.pop("LAB_BACKEND")
        if before is not None:
            os.environ["LAB_BACKEND"] = before


@contextmanager
def _interruptible() -> Iterator[None]:
    """Inside, every call of the native code runs in a thread, as those of large models do."""
    before, native.LONG = native.LONG, 0
    try:
        yield
    finally:
        native.LONG = before


def _turns(name: str, groups: list[list[Turn]]) -> dict[str, float | str]:
    """Texts, numbers of tokens and ends as one text; the mean and each third of the log-probabilities."""
    turns = [turn for group in groups for turn in group]
    logprobs = [turn.logprob for turn in turns]
    sampled = repr([(turn.text, turn.n_tokens, turn.finished) for turn in turns])
    return {f"{name}.said": sampled, f"{name}.logprob": sum(logprobs) / len(logprobs)} | spread(f"{name}.logprob", logprobs[::3])


def _answers(name: str, lm: torch.nn.Module, tokens) -> dict[str, float | str]:  # noqa: ANN001
    engine = Engine(lm, tokens)
    small = Engine(lm, tokens, batch=2)
    values: dict[str, float | str] = {f"{name}.backend": engine.backend}
    values |= _turns(f"{name}.one", engine.sample(PROMPTS, KEYS, max_new_tokens=12))
    values |= _turns(f"{name}.several", engine.sample(PROMPTS, KEYS, n=3, max_new_tokens=9))
    values |= _turns(f"{name}.greedy", engine.sample(PROMPTS[1:3], KEYS[1:3], temperature=0.0, max_new_tokens=8))
    values |= _turns(f"{name}.cooler", engine.sample(PROMPTS[:4], KEYS[:4], temperature=0.7, top_p=0.8, max_new_tokens=9))
    values |= _turns(f"{name}.small", small.sample(PROMPTS, KEYS, n=2, max_new_tokens=9))
    scores = [score for group in engine.score(PROMPTS, ACTIONS) for score in group]
    verdicts = [score for group in engine.judge(PROMPTS, ACTIONS) for score in group]
    values |= spread(f"{name}.score", scores) | spread(f"{name}.judge", verdicts)
    engine.forget()
    before = small.cost
    again = [score for group in small.judge(PROMPTS, ACTIONS, question="yes?") for score in group]
    return values | spread(f"{name}.judge.other", again[:2]) | {f"{name}.cost": f"{_cost(engine.cost)}; {_cost(small.cost - before)}"}


def _cost(cost: Cost) -> str:
    return f"{cost.lm_calls} calls, {cost.prompt_tokens} prompt, {cost.sampled_tokens} sampled, {cost.scored_tokens} scored"


def _grouped(tokens) -> dict[str, float | str]:  # noqa: ANN001
    """Heads that share keys and values, as pretrained models have them."""
    torch.manual_seed(1)
    config = LlamaConfig(vocab_size=len(tokens), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, max_position_embeddings=CONTEXT, initializer_range=0.2, rope_theta=1000.0,
                         pad_token_id=tokens.pad_token_id, bos_token_id=None, eos_token_id=tokens.eos_token_id)  # fmt: skip
    lm, values = LlamaForCausalLM(config).eval(), {}
    for backend in BACKENDS[:2]:
        with _backend(backend):
            values |= _turns(f"grouped.{backend}", Engine(lm, tokens).sample(PROMPTS[:3], KEYS[:3], n=2, max_new_tokens=6))
    return values


def _changed(lm: torch.nn.Module, tokens) -> dict[str, float | str]:  # noqa: ANN001
    """Weights that are changed in place between two calls; what was remembered of prompts is then wrong."""
    own = copy.deepcopy(lm)
    engine = Engine(own, tokens)
    engine.sample(PROMPTS[:2], KEYS[:2], max_new_tokens=3)
    with torch.no_grad():
        own.model.norm.weight.mul_(0.5)
    return _turns("changed", engine.sample(PROMPTS[:2], KEYS[:2], max_new_tokens=6))


def _adapters(lm: torch.nn.Module, tokens) -> dict[str, float | str]:  # noqa: ANN001
    own = add_adapters(copy.deepcopy(lm), 2, seed=3)
    values = {"adapters": str(len(adapters(own)))} | tensor("adapters.first", next(p for p in own.parameters() if p.requires_grad))
    with torch.no_grad():
        for i, (name, weight) in enumerate(own.named_parameters()):
            if "lora_B" in name:
                weight.copy_(torch.linspace(-0.2, 0.2 + 0.01 * i, weight.numel()).view_as(weight))
    for backend in BACKENDS:
        with _backend(backend):
            values |= _turns(f"adapters.{backend}", Engine(own, tokens).sample(PROMPTS[:2], KEYS[:2], max_new_tokens=6))
    with tempfile.TemporaryDirectory() as folder:
        save_adapters(own, Path(folder))
        plain = merge_adapters(own)
        again = load_adapters(add_adapters(copy.deepcopy(lm), 2, seed=4), Path(folder))
    values |= _turns("adapters.loaded", Engine(again, tokens).sample(PROMPTS[:2], KEYS[:2], max_new_tokens=6))
    return values | tensor("adapters.merged", plain.model.layers[0].mlp.up_proj.weight)


def _training(lm: torch.nn.Module, tokens) -> dict[str, float | str]:  # noqa: ANN001
    """Predictions with gradients, by the plain pass and, of a model in double precision, by its own."""
    rows = [Engine(lm, tokens).prompt_ids(prompt) for prompt in PROMPTS]
    scored = [list(range(2 + i % 2, len(row))) for i, row in enumerate(rows)]
    values: dict[str, float | str] = {"passes": repr(list(passes(lm, rows, scored)))}
    for name, own in (("plain", copy.deepcopy(lm)), ("padded", copy.deepcopy(lm).double())):
        predicted = predictions(own, rows, scored)
        logps = predicted.logps()
        logps.sum().backward()
        values |= {f"predict.{name}.rows": repr(predicted.row.tolist())} | tensor(f"predict.{name}", logps)
        values |= tensor(f"predict.{name}.gradient", own.model.layers[0].self_attn.q_proj.weight.grad)
    return values


def _policies(lm: torch.nn.Module, tokens) -> dict[str, float | str]:  # noqa: ANN001
    """Policies by themselves and as a team, and where their models live."""
    lm, tokens = on_device(placed(copy.deepcopy(lm), "cpu", bf16=True), tokens)
    one, other = LMPolicy(Engine(lm.cpu(), tokens), max_new_tokens=6), LMPolicy(Engine(lm, tokens), temperature=0.0, max_new_tokens=4)
    team = TeamPolicy({"red": one, "green": other}, lambda prompt: "red" if "red" in prompt[0]["content"] else "green")
    values = _turns("policy", one.propose(PROMPTS, KEYS, 2)) | _turns("team", team.propose(PROMPTS, KEYS, 1))
    values |= spread("policy.critique", [score for row in one.critique(PROMPTS[:2], ACTIONS[:2]) for score in row])
    values |= spread("team.critique", [score for row in team.critique(PROMPTS[:2], ACTIONS[:2]) for score in row])
    return values | {"team.cost": _cost(team.cost())}


def _saved(lm: torch.nn.Module, tokens) -> dict[str, float | str]:  # noqa: ANN001
    """A model that was saved and loaded again acts as it did."""
    with tempfile.TemporaryDirectory() as folder:
        save_model(lm, tokens, folder)
        again, own = load_model(folder)
    return _turns("saved", Engine(again, own).sample(PROMPTS[:2], KEYS[:2], max_new_tokens=6)) | {"saved.end": own.eos_token}
