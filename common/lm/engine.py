"""Batched sampling and scoring with a causal language model.

* Distinct prompts of a call are prefilled once and shared by all that continues them.
* A plain Llama runs through ``common.lm.llama``, which also remembers prompts, whole or in part, from call
  to call until the weights change; everything else runs through transformers (:class:`Transformers`). Large
  models on a GPU are sampled through vLLM where that is installed (``common.lm.vllm``).
* Rows that have finished leave the batch; on the processor those that wait take their places (``common.lm.native``).
* Sampling inverts the CDF at uniforms drawn from each row's own key, so a row's sample does not depend on
  its neighbours in the batch, nor on the order of the prompts.
* Weights are read from the live module, wherever it is now: training it in place needs no rebuild.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad
from transformers import DynamicCache
from transformers import PreTrainedTokenizerBase as Tokenizer

from common.lm import decode, llama, native, vllm
from common.lm.backends import asked_backend
from common.rng import generator
from common.types import Cost, Message, Turn

REMEMBERED = 50_000  # most texts whose tokens, and token rows whose text, are kept


class Engine:
    """Sampling and scoring for one model. ``cost`` counts calls, tokens and seconds; always on.

    A prompt that a call holds twice costs one ``lm_calls`` and its ``prompt_tokens`` once, whatever the
    batch; what was remembered from earlier calls is not deducted, so equal calls cost the same.

    Args:
        model: causal LM in eval mode; read, never changed.
        tokenizer: with a chat template and an end-of-turn ``eos_token``.
        batch: most rows run at once, ≥ 1.

    What it cannot do it refuses with a ValueError that names the argument; weights or logits that are not finite with a
    FloatingPointError. An empty batch has an empty answer.
    """

    def __init__(self, model: torch.nn.Module, tokenizer: Tokenizer, *, batch: int = 128) -> None:
        if batch < 1:
            raise ValueError(f"batch is {batch} but must be at least 1; run one row or more at once")
        self.model, self.tokenizer, self.batch = model, tokenizer, batch
        self.context: int = model.config.max_position_embeddings
        self.cost = Cost()
        self._ids: dict[str, list[int]] = {}
        self._prompts: dict[tuple[tuple[str, str], ...], list[int]] = {}
        self._texts: dict[tuple[int, ...], tuple[str, bool]] = {}
        self._llama: llama.Llama | None = None

    def forget(self) -> None:
        """Empty the prompt cache. It changes no answer of the native passes, and none of torch's by more
        than rounding; call it where answers must repeat to the last bit on every machine."""
        self._llama = None

    # -- text to tokens ---------------------------------------------------------------------

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        return memoised(self._ids, texts, self._tokenized)

    def _tokenized(self, texts: list[str]) -> list[list[int]]:
        backend = self.tokenizer.backend_tokenizer if self.tokenizer.is_fast else None
        if backend is None or backend.padding or backend.truncation:
            return self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        # The same tokens without masks and offsets, which nobody reads here, in half the time.
        return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]

    def _encode_prompts(self, prompts: Sequence[Sequence[Message]]) -> list[list[int]]:
        def compute(new: list[tuple[tuple[str, str], ...]]) -> list[list[int]]:
            chats = [[{"role": role, "content": content} for role, content in name] for name in new]
            return self._encode(self.tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True))

        names = [tuple((message["role"], message["content"]) for message in prompt) for prompt in prompts]
        return memoised(self._prompts, names, compute)

    def prompt_ids(self, prompt: Sequence[Message]) -> list[int]:
        """Token ids of a chat prompt, ending with the assistant header."""
        return self._encode_prompts([prompt])[0]

    def _asked_after(self, question: str) -> str:
        """What the chat template writes between the end of an answer and that of the next one, when ``question`` is asked."""
        dialogue = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
        rendered = self.tokenizer.apply_chat_template(dialogue, tokenize=False)
        asked = [*dialogue, {"role": "user", "content": question}]
        whole = self.tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        return whole[rendered.rindex(self.tokenizer.eos_token) + len(self.tokenizer.eos_token) :]

    def action_ids(self, action: str) -> list[int]:
        """Token ids of an action with its end-of-turn token."""
        return [*self._encode([action])[0], self.tokenizer.eos_token_id]

    def _turns(self, rows: list[tuple[int, ...]], logprobs: list[float]) -> list[Turn]:
        """Turns of sampled token rows; those that end with the end-of-turn token are finished."""
        end = self.tokenizer.eos_token_id

        def compute(new: list[tuple[int, ...]]) -> list[tuple[str, bool]]:
            texts = self.tokenizer.batch_decode(new)
            usual = self._encode(texts)
            return [(text, list(row) == ids) for row, text, ids in zip(new, texts, usual, strict=True)]

        decoded = memoised(self._texts, [row[:-1] if row[-1] == end else row for row in rows], compute)
        return [
            # A text that was sampled in other tokens than its own has another log-probability in training,
            # tens of nats apart; such a turn is as little to be learned from as one that was cut.
            Turn(text, logprob, len(row), row[-1] == end and usual)
            for row, (text, usual), logprob in zip(rows, decoded, logprobs, strict=True)
        ]

    def _check(self, length: int, limit: int, what: str) -> None:
        if length > limit:
            fit = f"{length} tokens do not fit the model's context of {self.context}"
            raise ValueError(f"{what}: {fit}; shorten the prompt or lower max_new_tokens")

    def _not_finite(self) -> FloatingPointError:
        """Why logits are not finite: a weight that is not, by name, or weights that are too large."""
        bad = next((name for name, weight in self.model.named_parameters() if not weight.isfinite().all()), None)
        what = f"the weight {bad} holds NaN or infinity" if bad else "all weights are finite, but too large for what is computed from them"
        return FloatingPointError(f"{decode.LOGITS}: {what}; nothing can be sampled or scored with them: load the model again, or lower "
                                  "the learning rate that led there")

    # -- model calls ------------------------------------------------------------------------

    @property
    def backend(self) -> str:
        """The sampling backend: the fastest of "vllm", "native", "torch" and "transformers" that can, or what ``LAB_BACKEND`` says.

        Raises:
            ValueError: ``LAB_BACKEND`` names one that cannot.
        """
        return self._backends()[0]

    def _backends(self) -> list[str]:
        """Those that can run the model: the one that was asked for, then the fastest first; vLLM last where it does not pay."""
        backends = ["transformers"]
        if llama.runs(self.model):
            backends = ["native", "torch", *backends] if native.usable(self.model) else ["torch", *backends]
        if vllm.usable(self.model):
            backends.insert(0 if vllm.worth_starting(self.model) else len(backends), "vllm")
        asked = asked_backend() or backends[0]
        if asked not in backends:
            raise ValueError(f"LAB_BACKEND: {asked} cannot run this {type(self.model).__name__} here, because {self._why_not(asked)}; "
                             f"choose from {', '.join(backends)}, or unset it for the fastest of them")
        return sorted(backends, key=lambda name: name != asked)

    def _why_not(self, backend: str) -> str:
        """Why one that exists and is installed cannot run the model."""
        if backend == "vllm":
            return "its weights have 4 bits, or several processes share the work"
        if backend == "native" and llama.runs(self.model):
            built = native.library()
            return built if isinstance(built, str) else "it runs on processors alone, heads of a multiple of eight entries"
        return "it is no plain Llama of float32 weights"

    def _backend(self, *, logits: bool = True) -> llama.Llama | Transformers | vllm.VLLM:
        """The first backend that can do it: vLLM samples, but gives no logits."""
        if self.model.training:
            self.model.eval()
        name = next(name for name in self._backends() if name != "vllm" or not logits)
        if name == "vllm":
            return vllm.VLLM(self.model, self.batch)
        kind = {"native": native.Native, "torch": llama.Llama}.get(name)
        if kind is None:
            self.forget()
            return Transformers(self.model, self.tokenizer.pad_token_id)
        if type(self._llama) is not kind:
            self._llama = kind(self.model)
        self._llama.refresh()
        return self._llama

    def _count(self, **more: float) -> None:
        self.cost = replace(self.cost, **{name: getattr(self.cost, name) + n for name, n in more.items()})

    def _prefilled(self, backend: Any, rows: list[tuple[list[int], Any]]) -> Iterator[tuple[Any, list[int], list[int]]]:
        """Prefill the prompts of rows (prompt, whatever can be sorted), in an order that is the rows' own.

        Yields at most ``batch`` prefilled prompts at a time, their rows, and which prompt each row continues.
        """
        order = sorted(range(len(rows)), key=lambda i: (len(rows[i][0]), *rows[i]))
        groups = [(prompt, list(members)) for prompt, members in groupby(order, key=lambda i: rows[i][0])]
        for at in range(0, len(groups), self.batch):
            prompts = [prompt for prompt, _ in groups[at : at + self.batch]]
            self._count(lm_calls=len(prompts), prompt_tokens=sum(map(len, prompts)))
            prefilled = backend.prefill(prompts)
            owned = [(i, k) for k, (_, members) in enumerate(groups[at : at + self.batch]) for i in members]
            yield prefilled, [i for i, _ in owned], [k for _, k in owned]

    @torch.inference_mode()
    def sample(
        self,
        prompts: Sequence[Sequence[Message]],
        keys: Sequence[int],
        *,
        n: int = 1,
        temperature: float = 1.0,
        top_p: float = 1.0,
        max_new_tokens: int = 32,
    ) -> list[list[Turn]]:
        """``n`` turns for each of P prompts: a list of P lists of n :class:`Turn`.

        Sample j of prompt i is a function of (weights, prompt i, ``keys[i]``, j). ``temperature`` ≥ 0, where 0
        is greedy; ``top_p`` in (0, 1]. Log-probabilities are under the model at temperature 1 and top-p 1.

        Raises:
            ValueError: an argument is outside its range, or prompt and new tokens do not fit the context.
            FloatingPointError: weights or logits are not finite.
        """
        decode.check_sampling(temperature, top_p, max_new_tokens, n)
        _same_length(prompts=prompts, keys=keys)
        if not len(prompts):
            return []
        start = time.perf_counter()
        encoded = self._encode_prompts(prompts)
        for row in encoded:
            self._check(len(row) + max_new_tokens, self.context, "prompt plus new tokens")
        rows = [(row, (key, j)) for row, key in zip(encoded, keys, strict=True) for j in range(n)]
        results: list[Turn | None] = [None] * len(rows)
        for prefilled, members, owner in self._prefilled(self._backend(logits=False), rows):
            uniforms = np.stack([generator(*rows[i][1]).random(max_new_tokens) for i in members])
            how = {"end": self.tokenizer.eos_token_id, "batch": self.batch}
            try:
                tokens, logprobs = prefilled.sample(owner, uniforms, temperature, top_p, **how)
            except decode.NotFinite:
                raise self._not_finite() from None
            self._count(sampled_tokens=sum(map(len, tokens)))
            for i, turn in zip(members, self._turns(tokens, logprobs), strict=True):
                results[i] = turn
        self._count(seconds=time.perf_counter() - start)
        return [results[i * n : (i + 1) * n] for i in range(len(encoded))]

    @torch.inference_mode()
    def score(self, prompts: Sequence[Sequence[Message]], actions: Sequence[Sequence[str]]) -> list[list[float]]:
        """Log-probability of each of ``actions[i]`` (with its end-of-turn token) after ``prompts[i]``. ValueError
        when prompt and action do not fit the context, FloatingPointError when weights or logits are not finite."""

        def values(prefilled: llama.Prefilled | TransformersPrefilled, owner: list[int], texts: list[list[int]]) -> list[float]:
            log_p = torch.log_softmax(prefilled.follow(owner, texts, last=False).float(), -1)
            flat = torch.tensor([token for text in texts for token in text], device=log_p.device)
            scores = log_p.gather(1, flat[:, None])[:, 0].double().cpu()
            return [float(part.sum()) for part in scores.split([len(text) for text in texts])]

        return self._answers(prompts, actions, [], values)

    @torch.inference_mode()
    def judge(
        self, prompts: Sequence[Sequence[Message]], actions: Sequence[Sequence[str]], *, question: str = "good?"
    ) -> list[list[float]]:
        """The model's own verdict on each action: P(yes) / (P(yes) + P(no)) after asking ``question``.

        The dialogue is prompt, action, user ``question``, assistant …, in the words of the chat template; the first
        tokens of "yes" and "no" are compared. Values in [0, 1].

        Raises:
            ValueError: when prompt, action and question do not fit the context.
            FloatingPointError: weights or logits are not finite.
        """
        [tail] = self._encode([self._asked_after(question)])
        yes, no = (ids[0] for ids in self._encode(["yes", "no"]))

        def values(prefilled: llama.Prefilled | TransformersPrefilled, owner: list[int], texts: list[list[int]]) -> list[float]:
            logits = prefilled.follow(owner, texts, last=True).double()
            return torch.sigmoid(logits[:, yes] - logits[:, no]).tolist()

        return self._answers(prompts, actions, tail, values)

    def _answers(self, prompts, actions, tail: list[int], values) -> list[list[float]]:  # noqa: ANN001
        """``values(prefilled prompts, owner of each text, texts)`` of all actions, each followed by ``tail``."""
        _same_length(prompts=prompts, actions=actions)
        if not any(len(group) for group in actions):
            return [[] for _ in actions]
        start = time.perf_counter()
        pairs = zip(self._encode_prompts(prompts), actions, strict=True)
        flat = [(prompt, [*self.action_ids(action), *tail]) for prompt, group in pairs for action in group]
        for prompt, text in flat:
            self._check(len(prompt) + len(text), self.context, "prompt plus scored action")
        results = [0.0] * len(flat)
        for prefilled, members, owner in self._prefilled(self._backend(), flat):
            for at in range(0, len(members), self.batch):
                some = members[at : at + self.batch]
                scored = values(prefilled, owner[at : at + self.batch], [flat[i][1] for i in some])
                if not all(map(math.isfinite, scored)):
                    raise self._not_finite()
                for i, value in zip(some, scored, strict=True):
                    results[i] = value
        self._count(scored_tokens=sum(len(text) for _, text in flat), seconds=time.perf_counter() - start)
        each = iter(results)
        return [[next(each) for _ in group] for group in actions]


def _same_length(**sequences: Sequence) -> None:
    """ValueError, which names both, unless the two sequences are equally long."""
    (one, first), (other, second) = sequences.items()
    if len(first) != len(second):
        raise ValueError(f"{one} and {other} are {len(first)} and {len(second)} but belong together one by one; give as many of both")


def memoised(memory: dict, names: Sequence, compute: Callable[[list], list]) -> list:
    """Memoised values of ``names``, in their order: ``compute(missing names)`` gives those that ``memory`` lacks, in one call."""
    missing = list({name for name in names if name not in memory})
    if len(memory) + len(missing) > REMEMBERED:
        memory.clear()
        missing = list(set(names))
    if missing:
        memory.update(zip(missing, compute(missing), strict=True))
    return [memory[name] for name in names]


class Transformers:
    """Passes through any causal LM of transformers: adapters, quantised weights, other architectures."""

    def __init__(self, model: torch.nn.Module, pad_id: int) -> None:
        self.model, self.pad_id = model, pad_id
        self.vocab, self.context = model.config.vocab_size, model.config.max_position_embeddings

    def prefill(self, rows: list[list[int]]) -> TransformersPrefilled:
        """Read U prompts, padded on the left."""
        return TransformersPrefilled(self, rows)

    def run(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: DynamicCache, last: int = 0
    ) -> torch.Tensor:
        """Logits [B, T, V] of ids [B, T] after the cache, of the ``last`` positions only unless 0; ``mask``
        [B, cached + T] is 0 on padding."""
        ids, mask, positions = (tensor.to(self.model.device) for tensor in (ids, mask, positions))
        inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
        return self.model(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=last).logits


class TransformersPrefilled:
    """U prefilled prompts; ``logits`` [U, V] are those of the token after each."""

    def __init__(self, lm: Transformers, rows: list[list[int]]) -> None:
        decode.check_tokens(rows, lm.vocab, lm.context)
        width = max(map(len, rows))
        ids = torch.tensor([[lm.pad_id] * (width - len(row)) + row for row in rows])
        self.lm, self.mask = lm, torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        self.cache = DynamicCache(config=lm.model.config)
        positions = (self.mask.cumsum(-1) - 1).clamp(min=0)
        self.logits = lm.run(ids, self.mask, positions, self.cache, last=1)[:, -1]

    def sample(
        self, owner: Sequence[int], uniforms: np.ndarray, temperature: float, top_p: float, *, end: int, batch: int
    ) -> tuple[list[tuple[int, ...]], list[float]]:
        """See :func:`common.lm.decode.sample`."""
        decode.check_rows(len(self.logits), owner, uniforms, batch)
        return decode.sample(self.start, owner, uniforms, temperature, top_p, end=end, batch=batch)

    def start(self, select: Sequence[int], room: int) -> TransformersDecoding:  # noqa: ARG002
        """Rows that continue prompts ``select``; ``room`` is not needed where the cache grows."""
        return TransformersDecoding(self, torch.tensor(select))

    def follow(self, select: Sequence[int], texts: Sequence[list[int]], *, last: bool) -> torch.Tensor:
        """See :meth:`common.lm.llama.Prefilled.follow`."""
        decode.check_tokens(texts, self.lm.vocab, self.lm.context)
        rows, lengths = TransformersDecoding(self, torch.tensor(select)), torch.tensor([len(text) for text in texts])
        width = int(lengths.max())
        ids = torch.tensor([[*text, *[self.lm.pad_id] * (width - len(text))] for text in texts])
        columns = torch.arange(width)
        real = columns < lengths[:, None]
        positions = rows.mask.sum(-1, keepdim=True) + columns.minimum(lengths[:, None] - 1)  # padding stays in range
        after = self.lm.run(ids, torch.cat([rows.mask, real.long()], 1), positions, rows.cache)
        if last:
            return after[torch.arange(len(texts)), (lengths - 1).to(after.device)]
        return torch.cat([rows.logits[:, None], after[:, :-1]], 1)[real.to(after.device)]


class TransformersDecoding:
    """R rows in decoding, which grow by one token a step; ``logits`` [R, V] are those of the next token."""

    def __init__(self, prefilled: TransformersPrefilled, select: torch.Tensor) -> None:
        self.lm, self.mask = prefilled.lm, prefilled.mask[select]
        there = select.to(prefilled.logits.device)
        self.logits = prefilled.logits[there]
        self.cache = DynamicCache(config=self.lm.model.config)
        for depth, layer in enumerate(prefilled.cache.layers):
            self.cache.update(layer.keys[there], layer.values[there], depth)

    def step(self, tokens: torch.Tensor) -> None:
        """Append one token to each row: ``tokens`` [R]."""
        self.mask = pad(self.mask, (0, 1), value=1)
        positions = self.mask.sum(-1, keepdim=True) - 1
        self.logits = self.lm.run(tokens[:, None], self.mask, positions, self.cache)[:, -1]

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with ``rows`` (indices) only."""
        self.mask = self.mask[rows.cpu()]
        self.cache.batch_select_indices(rows)
