"""Batched sampling and scoring with a causal language model (transformers backend).

* Rows are left-padded; prompts are sorted by length and run in chunks, so padding stays small.
* A prompt is prefilled once: its key-value cache is repeated for the samples of a group and for
  the continuations that are scored. Identical prompts of one call are prefilled once.
* Rows that have finished leave the batch.
* Sampling inverts the CDF at uniforms drawn from each row's own key, so a row's sample does not
  depend on its neighbours in the batch.
* Weights are read from the live module: training it in place needs no rebuild.
* What enters the model is put on the model's device; bookkeeping stays on the CPU.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from transformers import DynamicCache
from transformers import PreTrainedTokenizerBase as Tokenizer

from common.rng import generator
from common.types import Cost, Message, Turn


class Engine:
    """Sampling and scoring for one model. ``cost`` counts calls, tokens and seconds; always on.

    Args:
        model: causal LM in eval mode; read, never changed.
        tokenizer: with a chat template and an end-of-turn ``eos_token``.
        batch: most rows run at once.
    """

    def __init__(self, model: torch.nn.Module, tokenizer: Tokenizer, *, batch: int = 128) -> None:
        self.model, self.tokenizer, self.batch = model, tokenizer, batch
        self.context: int = model.config.max_position_embeddings
        self.cost = Cost()
        self._ids: dict[str, list[int]] = {}

    @property
    def device(self) -> torch.device:
        """Where the model lives now; it may be moved between calls."""
        return self.model.device

    # -- text to tokens ---------------------------------------------------------------------

    def prompt_ids(self, prompt: Sequence[Message]) -> list[int]:
        """Token ids of a chat prompt, ending with the assistant header."""
        text = self.tokenizer.apply_chat_template(list(prompt), tokenize=False, add_generation_prompt=True)
        if text not in self._ids:
            if len(self._ids) > 50_000:
                self._ids.clear()
            self._ids[text] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return self._ids[text]

    def action_ids(self, action: str) -> list[int]:
        """Token ids of an action with its end-of-turn token."""
        return [*self.tokenizer(action, add_special_tokens=False)["input_ids"], self.tokenizer.eos_token_id]

    def _check(self, length: int, limit: int, what: str) -> None:
        if length > limit:
            raise ValueError(
                f"{what}: {length} tokens do not fit the model's context of {self.context}; "
                f"shorten the prompt or lower max_new_tokens"
            )

    # -- model calls ------------------------------------------------------------------------

    def _prefill(self, rows: list[list[int]]) -> tuple[torch.Tensor, DynamicCache, torch.Tensor]:
        """Left-padded forward. Returns last-position logits [B, V], cache, mask [B, T]."""
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self.tokenizer.pad_token_id)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, width - len(row) :] = torch.tensor(row)
            mask[i, width - len(row) :] = 1
        ids, mask = ids.to(self.device), mask.to(self.device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        cache = DynamicCache(config=self.model.config)
        hidden = self.model.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        ).last_hidden_state
        self.cost = replace(
            self.cost,
            lm_calls=self.cost.lm_calls + len(rows),
            prompt_tokens=self.cost.prompt_tokens + sum(map(len, rows)),
        )
        return self.model.lm_head(hidden[:, -1]), cache, mask

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

        Sample j of prompt i is a function of (weights, prompt i, ``keys[i]``, j). ``temperature`` 0
        is greedy. Log-probabilities are under the model at temperature 1 and top-p 1.

        Raises:
            ValueError: when prompt and new tokens do not fit the context.
        """
        start = time.perf_counter()
        self.model.eval()
        encoded = [self.prompt_ids(prompt) for prompt in prompts]
        for row in encoded:
            self._check(len(row) + max_new_tokens, self.context, "prompt plus new tokens")
        order = sorted(range(len(encoded)), key=lambda i: (len(encoded[i]), i))
        results: list[list[Turn]] = [[] for _ in encoded]
        per_chunk = max(1, self.batch // n)
        for at in range(0, len(order), per_chunk):
            chunk = order[at : at + per_chunk]
            uniforms = np.stack([generator(keys[i], j).random(max_new_tokens) for i in chunk for j in range(n)])
            turns = self._decode([encoded[i] for i in chunk], torch.from_numpy(uniforms), n, temperature, top_p)
            for k, i in enumerate(chunk):
                results[i] = turns[k * n : (k + 1) * n]
        self.cost = replace(self.cost, seconds=self.cost.seconds + time.perf_counter() - start)
        return results

    def _decode(
        self, rows: list[list[int]], uniforms: torch.Tensor, n: int, temperature: float, top_p: float
    ) -> list[Turn]:
        unique = sorted(set(map(tuple, rows)), key=lambda row: (len(row), row))
        where = {row: k for k, row in enumerate(unique)}
        logits, cache, mask = self._prefill([list(row) for row in unique])
        select = [where[tuple(row)] for row in rows for _ in range(n)]
        if select != list(range(len(unique))):
            index = torch.tensor(select, device=self.device)
            logits, mask = logits[index], mask[index]
            cache.batch_select_indices(index)
        live = torch.arange(len(select))
        tokens: list[list[int]] = [[] for _ in select]
        logprobs = torch.zeros(len(select), dtype=torch.float64)
        finished = torch.zeros(len(select), dtype=torch.bool)
        limit = uniforms.shape[1]
        for step in range(limit):
            log_p = torch.log_softmax(logits.float(), -1)
            chosen = choose(log_p, uniforms[live, step], temperature, top_p)
            logprobs[live] += log_p.gather(1, chosen[:, None])[:, 0].double().cpu()
            chosen = chosen.cpu()
            for row, token in zip(live.tolist(), chosen.tolist(), strict=True):
                tokens[row].append(token)
            ended = chosen == self.tokenizer.eos_token_id
            finished[live[ended]] = True
            if bool(ended.all()) or step + 1 == limit:
                break
            if bool(ended.any()):
                keep = (~ended).nonzero()[:, 0]
                live, chosen = live[keep], chosen[keep]
                keep = keep.to(self.device)
                mask = mask[keep]
                cache.batch_select_indices(keep)
            mask = torch.cat([mask, mask.new_ones(len(live), 1)], 1)
            hidden = self.model.model(
                input_ids=chosen[:, None].to(self.device),
                attention_mask=mask,
                position_ids=mask.sum(-1, keepdim=True) - 1,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state
            logits = self.model.lm_head(hidden[:, -1])
        self.cost = replace(self.cost, sampled_tokens=self.cost.sampled_tokens + sum(map(len, tokens)))
        texts = self.tokenizer.batch_decode(
            [row[:-1] if done else row for row, done in zip(tokens, finished.tolist(), strict=True)]
        )
        usual = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return [
            # A text that was sampled in other tokens than its own has another log-probability in training,
            # tens of nats apart; such a turn is as little to be learned from as one that was cut.
            Turn(text, float(logprob), len(row), done and ids == row[:-1])
            for text, logprob, row, done, ids in zip(texts, logprobs, tokens, finished.tolist(), usual, strict=True)
        ]

    @torch.inference_mode()
    def score(self, prompts: Sequence[Sequence[Message]], actions: Sequence[Sequence[str]]) -> list[list[float]]:
        """Log-probability of each of ``actions[i]`` (with its end-of-turn token) after ``prompts[i]``.

        Each prompt is prefilled once and shared by its actions.

        Raises:
            ValueError: when prompt and action do not fit the context.
        """
        start = time.perf_counter()
        self.model.eval()
        results = self._grouped(prompts, actions, self._score)
        self.cost = replace(self.cost, seconds=self.cost.seconds + time.perf_counter() - start)
        return results

    def _score(self, rows: list[list[int]], actions: list[Sequence[str]]) -> list[list[float]]:
        flat = [self.action_ids(action) for group in actions for action in group]
        counts = [len(group) for group in actions]
        log_p = self._continue(rows, flat, counts).cpu()
        totals = [
            float(log_p[i, torch.arange(len(row)), torch.tensor(row)].double().sum()) for i, row in enumerate(flat)
        ]
        self.cost = replace(self.cost, scored_tokens=self.cost.scored_tokens + sum(map(len, flat)))
        return [totals[sum(counts[:i]) : sum(counts[: i + 1])] for i in range(len(counts))]

    @torch.inference_mode()
    def judge(
        self, prompts: Sequence[Sequence[Message]], actions: Sequence[Sequence[str]], *, question: str = "good?"
    ) -> list[list[float]]:
        """The model's own verdict on each action: P(yes) / (P(yes) + P(no)) after asking ``question``.

        The dialogue is prompt, action, user ``question``, assistant …; the first tokens of "yes" and
        "no" are compared. Each prompt is prefilled once and shared by its actions. Values in [0, 1].
        """
        start = time.perf_counter()
        self.model.eval()
        asked = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        tail = self.tokenizer(asked, add_special_tokens=False)["input_ids"]
        yes, no = (self.tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in ("yes", "no"))

        def verdicts(rows: list[list[int]], groups: list[Sequence[str]]) -> list[list[float]]:
            flat = [[*self.action_ids(action), *tail] for group in groups for action in group]
            counts = [len(group) for group in groups]
            log_p = self._continue(rows, flat, counts).cpu()
            last = log_p[torch.arange(len(flat)), torch.tensor([len(row) for row in flat])]
            p_yes = torch.sigmoid(last[:, yes].double() - last[:, no].double()).tolist()
            self.cost = replace(self.cost, scored_tokens=self.cost.scored_tokens + sum(map(len, flat)))
            return [p_yes[sum(counts[:i]) : sum(counts[: i + 1])] for i in range(len(counts))]

        results = self._grouped(prompts, actions, verdicts)
        self.cost = replace(self.cost, seconds=self.cost.seconds + time.perf_counter() - start)
        return results

    def _grouped(self, prompts, actions, compute) -> list[list[float]]:  # noqa: ANN001
        """Run ``compute(prompt rows, action groups)`` on chunks of at most ``batch`` actions, sorted by length."""
        encoded = [self.prompt_ids(prompt) for prompt in prompts]
        order = sorted((i for i in range(len(encoded)) if actions[i]), key=lambda i: (len(encoded[i]), i))
        results: list[list[float]] = [[] for _ in encoded]
        at = 0
        while at < len(order):
            chunk, rows = [order[at]], len(actions[order[at]])
            at += 1
            while at < len(order) and rows + len(actions[order[at]]) <= self.batch:
                chunk.append(order[at])
                rows += len(actions[order[at]])
                at += 1
            for i, values in zip(chunk, compute([encoded[i] for i in chunk], [actions[i] for i in chunk]), strict=True):
                results[i] = values
        return results

    def _continue(self, rows: list[list[int]], flat: list[list[int]], counts: list[int]) -> torch.Tensor:
        """Log-probabilities [N, 1 + T, V] after 0 … T tokens of each of N continuations ``flat``.

        ``counts[i]`` continuations belong to prompt ``rows[i]``; shorter ones are padded on the right.
        """
        owner = [i for i, count in enumerate(counts) for _ in range(count)]
        for i, row in zip(owner, flat, strict=True):
            self._check(len(rows[i]) + len(row), self.context, "prompt plus scored action")
        logits, cache, mask = self._prefill(rows)
        width = max(map(len, flat))
        ids = torch.full((len(flat), width), self.tokenizer.pad_token_id)
        real = torch.zeros((len(flat), width), dtype=torch.long)
        for i, row in enumerate(flat):
            ids[i, : len(row)] = torch.tensor(row)
            real[i, : len(row)] = 1
        select, ids, real = (tensor.to(self.device) for tensor in (torch.tensor(owner), ids, real))
        cache.batch_select_indices(select)
        last = torch.arange(width, device=self.device).minimum(real.sum(-1, keepdim=True) - 1)  # padding stays in range
        hidden = self.model.model(
            input_ids=ids,
            attention_mask=torch.cat([mask[select], real], 1),
            position_ids=mask[select].sum(-1, keepdim=True) + last,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        after = self.model.lm_head(hidden)
        return torch.log_softmax(torch.cat([logits[select][:, None], after], 1).float(), -1)


def choose(log_p: torch.Tensor, uniforms: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """Token per row of ``log_p`` [B, V] by inverse CDF at ``uniforms`` [B]; greedy when temperature is 0.

    top-p keeps the smallest set of most likely tokens whose mass reaches ``top_p`` (Holtzman et al.
    2020), computed after temperature.
    """
    if temperature == 0.0:
        return log_p.argmax(-1)
    p = torch.softmax(log_p.double() / temperature, -1)
    if top_p < 1.0:
        ranked, index = p.sort(dim=-1, descending=True, stable=True)
        drop = ranked.cumsum(-1) - ranked >= top_p
        p = p.masked_fill(torch.zeros_like(drop).scatter(1, index, drop), 0.0)
    cdf = p.cumsum(-1)
    draw = uniforms.to(cdf)[:, None] * cdf[:, -1:]
    return torch.searchsorted(cdf, draw, right=True)[:, 0].clamp(max=log_p.shape[1] - 1)
