"""A plain forward pass of the Llama architecture for sampling and scoring many short texts.

A nano model spends most of its time in transformers between the matrix products. Here a layer is four
products and a handful of other operations, and nothing is computed twice:

* Tokens that are run are packed, [N, W] without padding; only attention sees padded rows.
* What a token's keys and values are depends on the tokens before it alone. They are kept by prefix, a
  trie of tokens, until the weights change: a prompt that was seen, or that begins like one that was seen,
  is read from memory.
* In the last layer, tokens whose prediction nobody asks for stop at their keys and values.
* Weights are the live module's; a checksum tells at the start of each call whether they have changed.

Architecture: Touvron et al. 2023 (arXiv:2302.13971): RMSNorm before each block, rotary positions
(Su et al. 2021), SwiGLU; grouped queries as in Ainslie et al. 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from peft.tuners.lora.layer import Linear as Adapted
from torch import nn
from transformers.models.llama import modeling_llama as reference

from common.lm import decode

if TYPE_CHECKING:
    from common.lm.predict import Prefixes

PLAIN = {reference.LlamaForCausalLM, reference.LlamaModel, reference.LlamaDecoderLayer, reference.LlamaAttention,
         reference.LlamaMLP, reference.LlamaRMSNorm, reference.LlamaRotaryEmbedding,
         nn.ModuleList, nn.Embedding, nn.Linear, nn.SiLU, reference.ACT2FN["silu"].__class__,
         Adapted, nn.ModuleDict, nn.ParameterDict, nn.Identity}  # fmt: skip
"""Types of the modules of a model that nothing was added to but low-rank adapters (:mod:`common.lm.adapters`)."""

MEMORY = 128 * 2**20
"""Bytes of keys, values and hidden states kept by prefix; more only where one call needs more at once."""

SCORES = 2**22
"""Most entries of one attention mask."""


def runs(model: nn.Module) -> bool:
    """Whether :class:`Llama` computes exactly what ``model`` does: a LlamaForCausalLM and nothing else but low-rank
    adapters inside (no quantisation, hooks or parametrisations), float32, plain rotary positions, no biases."""
    if type(model) is not reference.LlamaForCausalLM:
        return False
    for module in model.modules():
        if type(module) not in PLAIN or module._forward_hooks or module._forward_pre_hooks:
            return False
        if type(module) is Adapted and not is_low_rank(module):
            return False
        for p in module._parameters.values():
            if p is not None and (p.dtype != torch.float32 or p.is_inference()):
                return False
            if p is not None and (not p.is_contiguous() or p.storage_offset() % 2 or p.shape[-1] % 2):  # bits in pairs
                return False
    config = model.config
    return (
        config.rope_parameters.get("rope_type") == "default"
        and config.rope_parameters.get("partial_rotary_factor", 1.0) == 1.0
        and not (config.attention_bias or config.mlp_bias)
        and config.hidden_act == "silu"
        and not config.attention_dropout
        and config.head_dim % 2 == config.hidden_size % 2 == config.intermediate_size % 2 == 0
    )


def is_low_rank(layer: Adapted) -> bool:
    """Whether ``layer`` computes W + (α/r)·B·A and nothing else: one adapter, switched on and not merged, of plain LoRA."""
    [name, *more] = layer.active_adapters or [""]
    plain = name in layer.lora_A and not (more or layer.disable_adapters or layer.merged or layer.fan_in_fan_out)
    return plain and type(layer.get_base_layer()) is nn.Linear and not (
        layer.lora_variant or layer.lora_bias[name] or type(layer.lora_dropout[name]) is not nn.Identity)  # fmt: skip


def weight_of(layer: nn.Linear | Adapted) -> torch.Tensor:
    """[out, in], adapters added; with gradients into them where those are recorded."""
    if type(layer) is not Adapted:
        return layer.weight
    return layer.get_base_layer().weight + layer.get_delta_weight(layer.active_adapters[0])


def predict(model: nn.Module, prefixes: Prefixes) -> torch.Tensor:
    """Logits [D, V] after the prefixes asked for, each computed once, with gradients into the weights of ``model``,
    for which :func:`runs` holds."""
    own = Llama(model)
    own.take()
    hidden = own._pass(
        prefixes.token, prefixes.position, prefixes.row, prefixes.asked, prefixes.paths, lambda _, *memory: memory
    )
    return F.linear(hidden, own.head)


class LayerWeights(NamedTuple):
    """Weights of one layer, those of both norms multiplied into the products that follow them.

    W width, H query heads, K key-value heads, D head size, I inner width.
    """

    qkv: torch.Tensor  # [(H + 2K) D, W]; rows of a rotated pair are neighbours, so that rotating is a complex product
    out: torch.Tensor  # [W, H D]
    gate_up: torch.Tensor  # [2 I, W]
    down: torch.Tensor  # [W, I]


class Llama:
    """Forward passes of a live ``model`` for which :func:`runs` holds, with a memory; training uses :func:`predict`.

    Call :meth:`refresh` before a series of passes between which the weights stand still. ``prefill`` is
    what :class:`common.lm.engine.Engine` asks for.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model, config = model, model.config
        self.heads, self.kv_heads, self.size = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        self.split = (self.heads * self.size, self.kv_heads * self.size, self.kv_heads * self.size)
        self.eps, self.vocab, self.depth = config.rms_norm_eps, config.vocab_size, config.num_hidden_layers
        self.context = config.max_position_embeddings
        self._stamp: list[tuple] = []
        self._capacity = 0
        self.era = 0  # how often all prefixes were dropped; slots of an earlier era hold something else now

    # -- weights ----------------------------------------------------------------------------

    def refresh(self) -> None:
        """Take notice of weights that were changed, moved or replaced; forget all prefixes if so.

        Writing through a parameter raises its version; writing through ``parameter.data`` shows in the sum
        of the bits.
        """
        stamp = [(p.data_ptr(), p._version, int(p.view(torch.int64).sum())) for p in self.model.parameters()]
        if stamp == self._stamp:
            return
        self._stamp = stamp
        self.take()
        self._capacity = 0
        self.forget()

    def take(self) -> None:
        """The weights as they are now; with gradients where those are recorded."""
        body = self.model.model
        self.embed, self.norm, self.head = body.embed_tokens.weight, body.norm.weight, weight_of(self.model.lm_head)
        self.layers = [self._layer(layer) for layer in body.layers]
        positions = torch.arange(self.model.config.max_position_embeddings, device=self.embed.device).float()
        angles = positions[:, None] * body.rotary_emb.inv_freq.float()
        self.turns = torch.polar(torch.ones_like(angles), angles)[:, None]  # [context, 1, D / 2], complex

    def _layer(self, layer: nn.Module) -> LayerWeights:
        attention, mlp = layer.self_attn, layer.mlp
        qk = torch.cat([weight_of(attention.q_proj), weight_of(attention.k_proj)])
        qk = qk.view(-1, 2, self.size // 2, qk.shape[1]).transpose(1, 2).reshape(qk.shape)
        return LayerWeights(
            torch.cat([qk, weight_of(attention.v_proj)]) * layer.input_layernorm.weight,
            weight_of(attention.o_proj),
            torch.cat([weight_of(mlp.gate_proj), weight_of(mlp.up_proj)]) * layer.post_attention_layernorm.weight,
            weight_of(mlp.down_proj),
        )

    # -- what is known of prefixes ------------------------------------------------------------

    def forget(self) -> None:
        """Drop all prefixes."""
        self._next: dict[int, int] = {}  # slot of a prefix · vocabulary + token → slot of the longer prefix
        self._used = 1  # slot 0 is the empty prefix, and what padding points at
        self._known = bytearray(self._capacity)  # whether the last hidden state of a slot was computed
        self.era += 1

    def _reserve(self, tokens: int) -> None:
        """Room for ``tokens`` more slots; all prefixes are dropped when there is none."""
        if self._used + tokens <= self._capacity:
            return
        width = self.split[1]
        if tokens >= self._capacity:
            per_token = 4 * (2 * self.depth * width + self.embed.shape[1])
            self._capacity = max(MEMORY // per_token, tokens + 1)
            self.kv = self.embed.new_empty(self.depth, 2, self._capacity, width)
            self.hidden = self.embed.new_empty(self._capacity, self.embed.shape[1])
            self.kv[:, :, 0] = 0.0
        self.forget()

    def read(
        self, rows: Sequence[Sequence[int]], first: Sequence[int], begun: Sequence[list[int]] = ()
    ) -> list[list[int]]:
        """Slots of all prefixes of ``rows``; run what is not known of them. Final hidden states are known
        afterwards at positions ``first[i]``, … of row i.

        ``begun[i]`` are the slots of row i's first tokens, where they were just read and with them the hidden state
        at the last one; they are not looked up again.
        """
        more = sum(map(len, rows)) - sum(map(len, begun))
        if self._used + more > self._capacity:  # all slots will be dropped, those of the beginnings too
            begun, more = (), sum(map(len, rows))
        self._reserve(more)
        table, vocab, known = self._next, self.vocab, self._known
        start, paths = self._used, []
        fresh: list[tuple[int, int, int, int, bool]] = []  # token, position, row, slot, whether it is asked for
        again: list[tuple[int, int, int, int, bool]] = []  # keys and values are known, the hidden state is not
        for i, (row, begin) in enumerate(zip(rows, first, strict=True)):
            path = list(begun[i]) if begun else []
            at = path[-1] if path else 0
            for position, token in enumerate(row[len(path) :], start=len(path)):
                key = at * vocab + token
                at = table.get(key, 0)
                asked = position >= begin
                if not at:
                    at = table[key] = start + len(fresh)
                    fresh.append((token, position, i, at, asked))
                    known[at] = asked
                elif asked and not known[at]:
                    again.append((token, position, i, at, True))
                    known[at] = True
                path.append(at)
            paths.append(path)
        self._used += len(fresh)
        if fresh or again:
            try:
                self._run(fresh + again, len(fresh), paths)
            except BaseException:  # an interrupted pass must not leave slots behind that hold nothing
                self.forget()
                raise
        return paths

    # -- forward ----------------------------------------------------------------------------

    def _run(self, todo: list[tuple[int, int, int, int, bool]], n_fresh: int, paths: list[list[int]]) -> None:
        """One pass over the packed tokens ``todo``: keys and values of the first ``n_fresh``, which have
        consecutive slots, and hidden states of those asked for, go to memory."""
        lo = todo[0][3]
        token, position, row, slot, asked = integers(chain.from_iterable(todo)).view(-1, 5).unbind(1)

        def remember(depth: int, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            self.kv[depth, 0, lo : lo + n_fresh] = keys[:n_fresh]
            self.kv[depth, 1, lo : lo + n_fresh] = values[:n_fresh]
            return self.kv[depth]

        asked = asked.nonzero()[:, 0]
        self.hidden[slot[asked].to(self.hidden.device)] = self._pass(token, position, row, asked, paths, remember)

    def _pass(
        self, token: torch.Tensor, position: torch.Tensor, row: torch.Tensor, asked: torch.Tensor,
        paths: Sequence[Sequence[int]], remember: Callable,
    ) -> torch.Tensor:
        """Final hidden states [A, W] of the packed tokens ``asked`` (indices [A] into ``token`` [N]).

        ``row`` names for each token a row whose ``paths`` entry holds it and all before it. ``remember(depth, keys,
        values)`` takes those of the N tokens and returns, as a pair, those that the numbers in ``paths`` stand for.
        """
        device, n_query = self.embed.device, self.split[0]
        every, few = Queries(row, position, paths, device), Queries(row[asked], position[asked], paths, device)
        turns, x, asked = self.turns[position.to(device)], self.embed[token.to(device)], asked.to(device)
        for depth, layer in enumerate(self.layers):
            h, queries, q_turns = self._rms(x), every, turns
            k, v = F.linear(h, layer.qkv[n_query:]).split(self.split[1:], 1)
            memory = remember(depth, self._turn(k, turns), v)
            if depth == self.depth - 1:
                x, h, queries, q_turns = x[asked], h[asked], few, turns[asked]
            q = self._turn(F.linear(h, layer.qkv[:n_query]), q_turns)
            seen = queries.attend(q, memory, self.heads, self.kv_heads)
            x = self._feed(torch.addmm(x, seen, layer.out.t()), layer)
        return self._rms(x) * self.norm

    def _rms(self, x: torch.Tensor) -> torch.Tensor:
        return x * x.pow(2).mean(-1, keepdim=True).add_(self.eps).rsqrt_()

    def _turn(self, x: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
        """Rotate the pairs of ``x`` [N, heads · D] by ``turns`` [N, 1, D / 2]."""
        pairs = torch.view_as_complex(x.view(len(x), -1, self.size // 2, 2))
        return torch.view_as_real(pairs * turns).view(len(x), -1)

    def _feed(self, x: torch.Tensor, layer: LayerWeights) -> torch.Tensor:
        gate, up = F.linear(self._rms(x), layer.gate_up).chunk(2, -1)
        return torch.addmm(x, F.silu(gate).mul_(up), layer.down.t())

    # -- what the engine asks for -------------------------------------------------------------

    def prefill(self, rows: Sequence[Sequence[int]]) -> Prefilled:
        """Read prompts; continue with the answer before anything else is read."""
        return Prefilled(self, rows)

    def after(self, slots: Sequence[int]) -> torch.Tensor:
        """Logits [N, V] that follow ``slots``, whose hidden states are known."""
        return F.linear(self.hidden[integers(slots).to(self.embed.device)], self.head)

    def sample(
        self, prefilled: Prefilled, owner: Sequence[int], uniforms: np.ndarray, temperature: float, top_p: float, *,
        end: int, batch: int,
    ) -> tuple[list[tuple[int, ...]], list[float]]:
        """Rows that continue prompts ``owner`` of ``prefilled``; see :func:`common.lm.decode.sample`."""
        decode.check_rows(len(prefilled.paths), owner, uniforms, batch)
        return decode.sample(prefilled.start, owner, uniforms, temperature, top_p, end=end, batch=batch)


class Queries:
    """Attention of packed queries, each over its row's memory up to itself.

    A row that brings a whole prompt has many queries, one that only continues it has few. So rows are padded to the
    most queries among those that have at most twice as many.
    """

    def __init__(self, row: torch.Tensor, position: torch.Tensor, paths: Sequence[Sequence[int]], device: torch.device) -> None:
        active, owner, counts = torch.unique(row, return_inverse=True, return_counts=True)
        order = torch.argsort(owner, stable=True)
        first = counts.cumsum(0) - counts  # where a row's queries begin in ``order``
        size = torch.frexp(counts.double()).exponent  # 1, 2-3, 4-7, … queries
        self.blocks, flat, at = [], torch.empty_like(owner), 0
        for one in size.unique().tolist():
            rows = (size == one).nonzero()[:, 0]
            columns = torch.arange(int(counts[rows].max()))
            real = columns < counts[rows][:, None]
            source = order[torch.where(real, first[rows][:, None] + columns, 0)]  # padding repeats any query
            flat[source[real]] = at + real.view(-1).nonzero()[:, 0]
            self.blocks.append(Block(source, position[source], padded([paths[i] for i in active[rows].tolist()]), device))
            at += source.numel()
        self.flat = flat.to(device)

    def attend(self, q: torch.Tensor, memory: Sequence[torch.Tensor], heads: int, kv_heads: int) -> torch.Tensor:
        """Packed ``q`` [N, heads · D] over keys and values ``memory`` [slots, kv_heads · D] each; packed again."""
        seen = [block.attend(q, *memory, heads, kv_heads) for block in self.blocks]
        return torch.cat(seen).index_select(0, self.flat)


class Block:
    """Queries ``source`` [A, Q] at ``position`` [A, Q] of A rows of ``slots`` [A, T]."""

    def __init__(self, source: torch.Tensor, position: torch.Tensor, slots: torch.Tensor, device: torch.device) -> None:
        hidden = torch.arange(slots.shape[1]) > position[..., None]
        self.mask = torch.zeros(hidden.shape).masked_fill_(hidden, -torch.inf)[:, None].to(device)  # [A, 1, Q, T]
        self.source, self.slots = source.to(device), slots.to(device)

    def attend(self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, heads: int, kv_heads: int) -> torch.Tensor:
        q, keys, values = (
            packed.index_select(0, where.view(-1)).view(*where.shape, n, -1).transpose(1, 2)
            for packed, where, n in ((q, self.source, heads), (keys, self.slots, kv_heads), (values, self.slots, kv_heads))
        )
        seen = F.scaled_dot_product_attention(q, keys, values, attn_mask=self.mask, enable_gqa=heads != kv_heads)
        return seen.transpose(1, 2).reshape(self.source.numel(), -1)


def integers(values: Iterable[int]) -> torch.Tensor:
    """[N] int64, in a seventh of the time that ``torch.tensor`` takes."""
    return torch.from_numpy(np.fromiter(values, dtype=np.int64))


def padded(paths: Sequence[Sequence[int]], more: int = 0) -> torch.Tensor:
    """Rows [B, T + more] of slots, filled with 0 on the right."""
    slots = np.zeros((len(paths), max(map(len, paths)) + more), dtype=np.int64)
    for row, path in zip(slots, paths, strict=True):
        row[: len(path)] = path
    return torch.from_numpy(slots)


class Prefilled:
    """U prefilled prompts; ``logits`` [U, V] are those of the token after each."""

    def __init__(self, llama: Llama, rows: Sequence[Sequence[int]]) -> None:
        decode.check_tokens(rows, llama.vocab, llama.context)
        self.llama, self.rows = llama, rows
        llama._reserve(sum(map(len, rows)))  # for all parts at once: the second must not drop what the first has read
        at, self.paths = 0, []
        while at < len(rows):
            count = max(1, SCORES // max(map(len, rows[at:])) ** 2)
            part = rows[at : at + count]
            self.paths += llama.read(part, [len(row) - 1 for row in part])
            at += count
        self.logits = self.llama.after([path[-1] for path in self.paths])
        self.era = llama.era

    def sample(
        self, owner: Sequence[int], uniforms: np.ndarray, temperature: float, top_p: float, *, end: int, batch: int
    ) -> tuple[list[tuple[int, ...]], list[float]]:
        """See :func:`common.lm.decode.sample`."""
        return self.llama.sample(self, owner, uniforms, temperature, top_p, end=end, batch=batch)

    def start(self, select: Sequence[int], room: int) -> Decoding:
        """Rows that continue prompts ``select`` by up to ``room`` tokens each."""
        return Decoding(self.llama, [self.paths[i] for i in select], self.logits[torch.tensor(select)], room)

    def follow(self, select: Sequence[int], texts: Sequence[Sequence[int]], *, last: bool) -> torch.Tensor:
        """Logits after ``texts`` that continue prompts ``select``: with ``last`` [N, V] after each whole text,
        otherwise [Σ lengths, V], packed, before each of its tokens."""
        rows = [[*self.rows[i], *text] for i, text in zip(select, texts, strict=True)]
        decode.check_tokens(rows, self.llama.vocab, self.llama.context)
        firsts = [len(row) - 1 if last else len(self.rows[i]) - 1 for i, row in zip(select, rows, strict=True)]
        begun = [self.paths[i] for i in select] if self.era == self.llama.era else ()  # an earlier call may have filled the memory
        paths = self.llama.read(rows, firsts, begun)
        if last:
            return self.llama.after([path[-1] for path in paths])
        return self.llama.after(list(chain.from_iterable(p[f:-1] for p, f in zip(paths, firsts, strict=True))))


class Decoding:
    """R rows in decoding in a static cache of their own; ``logits`` [R, V] are those of the next token."""

    def __init__(self, llama: Llama, paths: list[list[int]], logits: torch.Tensor, room: int) -> None:
        slots, device = padded(paths, more=room), logits.device
        lengths = torch.tensor([len(path) for path in paths])
        self.llama, self.logits = llama, logits
        self.lengths, self.columns = lengths.to(device), slots.shape[1] - room
        gap = torch.arange(slots.shape[1])[None] >= lengths[:, None]
        gap[:, self.columns :] = False
        self.mask = torch.zeros(gap.shape).masked_fill_(gap, -torch.inf)[:, None, None].to(device)  # [R, 1, 1, T]
        flat = slots.view(-1).to(device)
        self.cache = [
            [memory.index_select(0, flat).view(*slots.shape, llama.kv_heads, llama.size) for memory in pair]
            for pair in llama.kv
        ]  # [layers][keys, values][R, T, K, D]

    def step(self, tokens: torch.Tensor) -> None:
        """Append one token to each row: ``tokens`` [R]."""
        llama, at = self.llama, self.columns
        rows, turns, x = len(tokens), llama.turns[self.lengths], llama.embed[tokens]
        shape = (rows, llama.kv_heads, llama.heads // llama.kv_heads, llama.size)
        turned = llama.split[0] + llama.split[1]
        mask = self.mask[..., : at + 1]
        for layer, (keys, values) in zip(llama.layers, self.cache, strict=True):
            qkv = F.linear(llama._rms(x), layer.qkv)
            qk = llama._turn(qkv[:, :turned], turns)
            keys[:, at] = qk[:, llama.split[0] :].view(rows, *keys.shape[2:])
            values[:, at] = qkv[:, turned:].view(rows, *keys.shape[2:])
            seen = F.scaled_dot_product_attention(
                qk[:, : llama.split[0]].view(shape),  # the queries that share a key head, as if they were positions
                keys[:, : at + 1].transpose(1, 2),
                values[:, : at + 1].transpose(1, 2),
                attn_mask=mask,
            )
            x = llama._feed(torch.addmm(x, seen.reshape(rows, -1), layer.out.t()), layer)
        self.lengths, self.columns = self.lengths + 1, at + 1
        self.logits = F.linear(llama._rms(x) * llama.norm, llama.head)

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with ``rows`` (indices) only."""
        self.lengths, self.mask = self.lengths[rows], self.mask[rows]
        self.cache = [[side.index_select(0, rows) for side in pair] for pair in self.cache]
