"""Passes and sampling of a plain Llama on one core, by ``native.c``, which the machine's C compiler builds at first use.

torch costs a nano model more between its products than in them, and gives a row other last bits in another batch.
Here whole answers are sampled in one call, rows that end give their place to rows that wait, and whatever is
computed for a token is the same to the last bit whatever else is in the batch and whatever was remembered.
Where there is no compiler everything runs through torch (:class:`common.lm.llama.Llama`), with the same
results up to rounding.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from ctypes import POINTER, Structure, c_char_p, c_double, c_float, c_int64, c_void_p
from functools import cache
from itertools import chain
from pathlib import Path
from threading import Event, Thread

import numpy as np
import torch
from torch import nn

from common.config import ConfigError
from common.lm import decode
from common.lm.llama import Llama, Prefilled, weight_of

SOURCE = Path(__file__).with_suffix(".c")
FLAGS = ("-O3", "-std=gnu11", "-fPIC", "-shared")
ARCHITECTURE = "LAB_NATIVE_ARCH"
"""Variable that names the processor that the source is built for, as the compiler's ``-march`` does: ``x86-64-v3`` for AVX2 on one that
has AVX-512. Without it, for this machine's."""

PANEL = 32
"""Columns of a packed panel, ``P`` of the source."""

SEATS = 24
"""Most rows sampled at once: two tiles of the source's. Keys and values of more would leave the cache."""

LONG = 10**11
"""Operations, about a second of them, from which on a call can be interrupted. A thread costs half a millisecond, a tenth
of what a nano model's answer takes."""


NO_MEMORY, OUT_OF_RANGE, NOT_FINITE = -1, -2, -3
"""What calls of the source return where they cannot do what was asked; 0 when it is done."""

HOTTEST = 1e38
"""Highest temperature that float32 holds: all tokens are equally likely long before."""


class LayerStruct(Structure):
    """``Layer`` of the source: packed matrices."""

    _fields_ = [(name, c_void_p) for name in ("qkv", "out", "gate_up", "down")]


class ModelStruct(Structure):
    """``Model`` of the source."""

    _fields_ = [
        *((name, c_int64) for name in ("width", "depth", "heads", "kv_heads", "size", "inner", "vocab", "context")),
        *((name, c_void_p) for name in ("embed", "norm", "turns", "head")),
        ("layers", POINTER(LayerStruct)),
        ("eps", c_float),
    ]


class MemoryStruct(Structure):
    """``Memory`` of the source."""

    _fields_ = [("kv", c_void_p), ("capacity", c_int64), ("own", c_void_p), ("seats", c_int64), ("room", c_int64)]


def compiler() -> str | None:
    """The C compiler: ``CC``, else cc, gcc or clang; None where there is none."""
    return next(filter(None, map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))), None)


@cache
def library() -> ctypes.CDLL | str:
    """The built source, or in words why there is none. Kept beside Python's own compiled files, or where those cannot
    be written in a folder for temporary files."""
    cc = compiler()
    if cc is None:
        return "no C compiler was found; install one, or set CC"
    version = subprocess.run([cc, "--version"], capture_output=True, text=True, check=False).stdout
    cpuinfo = Path("/proc/cpuinfo")
    flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "") if cpuinfo.exists() else ""
    flags_used = (*FLAGS, f"-march={os.environ.get(ARCHITECTURE) or 'native'}")
    parts = (SOURCE.read_text(encoding="utf-8"), *flags_used, cc, version, platform.machine(), platform.processor(), flags)
    name = f"native-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:16]}.so"
    for folder in (SOURCE.parent / "__pycache__", Path(tempfile.gettempdir()) / f"native-{os.getuid()}"):
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            return ctypes.CDLL(str(_built(cc, flags_used, folder / name)))
        except subprocess.CalledProcessError as error:
            if asked := os.environ.get(ARCHITECTURE):  # what was asked for is not replaced by something else in silence
                raise ConfigError(f"{ARCHITECTURE} is {asked} but {cc} builds {SOURCE.name} for no such processor; name one as its -march "
                                  f"does, such as x86-64-v3, or unset {ARCHITECTURE}") from None
            return f"{cc} could not build {SOURCE.name}: {next(iter(error.stderr.splitlines()), error)}"
        except OSError as error:
            reason = str(error)
    return f"{name} could not be kept or loaded: {reason}"


def _built(cc: str, flags: Sequence[str], path: Path) -> Path:
    if not path.exists():
        handle, made = tempfile.mkstemp(suffix=".so", dir=path.parent)  # two workers may build at once
        os.close(handle)
        try:
            subprocess.run([cc, *flags, str(SOURCE), "-o", made, "-lm"], capture_output=True, text=True, check=True)
            os.replace(made, path)
        finally:
            Path(made).unlink(missing_ok=True)
    return path


def instructions() -> str:
    """The instructions that the source is built for, "none" where it is not built."""
    built = library()
    if isinstance(built, str):
        return "none"
    built.instructions.restype = c_char_p
    return built.instructions().decode()


def usable(model: nn.Module) -> bool:
    """Whether :class:`Native` takes ``model``, for which :func:`common.lm.llama.runs` holds: on the processor, heads
    of a multiple of eight entries, and a compiler."""
    return model.device.type == "cpu" and model.config.head_dim % 8 == 0 and not isinstance(library(), str)


class Native(Llama):
    """:class:`Llama` whose passes run in ``native.c``."""

    def take(self) -> None:
        """Pack the weights as they are now."""
        body, self._packed = self.model.model, []
        with torch.no_grad():
            self.embed, self.norm = body.embed_tokens.weight.detach(), body.norm.weight.detach()
            positions = torch.arange(self.model.config.max_position_embeddings).float()
            angles = positions[:, None] * body.rotary_emb.inv_freq.float()
            self.turns = torch.stack([angles.cos(), angles.sin()], 1)  # [context, 2, D / 2]
            layers = (LayerStruct * self.depth)(*(self._layer_of(layer) for layer in body.layers))
            head = self._pack(weight_of(self.model.lm_head))
        self._model = ModelStruct(
            self.embed.shape[1], self.depth, self.heads, self.kv_heads, self.size, self.model.config.intermediate_size,
            self.vocab, self.context, self.embed.data_ptr(), self.norm.data_ptr(), self.turns.data_ptr(), head, layers, self.eps,
        )  # fmt: skip
        self._own = self.embed.new_empty(0)

    def _layer_of(self, layer: nn.Module) -> LayerStruct:
        attention, mlp = layer.self_attn, layer.mlp
        qkv = torch.cat([weight_of(one) for one in (attention.q_proj, attention.k_proj, attention.v_proj)])
        gate, up = weight_of(mlp.gate_proj), weight_of(mlp.up_proj)
        inner, width = gate.shape
        gated = torch.empty(-(-inner // 16), width, PANEL)
        library().pack_gated(_at(gate), _at(up), c_int64(inner), c_int64(width),
                             _at(layer.post_attention_layernorm.weight), _at(gated))  # fmt: skip
        self._packed.append(gated)
        return LayerStruct(self._pack(qkv, layer.input_layernorm.weight), self._pack(weight_of(attention.o_proj)), gated.data_ptr(),
                           self._pack(weight_of(mlp.down_proj)))  # fmt: skip

    def _pack(self, weight: torch.Tensor, scale: torch.Tensor | None = None) -> int:
        out, width = weight.shape
        packed = torch.empty(-(-out // PANEL), width, PANEL)
        library().pack(_at(weight), c_int64(out), c_int64(width), _at(scale), _at(packed))
        self._packed.append(packed)
        return packed.data_ptr()

    def _memory(self, seats: int = 0, room: int = 0) -> MemoryStruct:
        needed = 2 * self.depth * seats * room * self.split[1]
        if self._own.numel() < needed:
            self._own = self.embed.new_empty(needed)
        return MemoryStruct(self.kv.data_ptr(), self._capacity, self._own.data_ptr(), seats, room)

    def _run(self, todo: list[tuple[int, int, int, int, bool]], n_fresh: int, paths: list[list[int]]) -> None:
        token, position, row, slot, asked = _integers(chain.from_iterable(todo)).reshape(-1, 5).T.copy()
        begin, _, flat = _laid(paths)
        begin, asked = begin[row], asked.nonzero()[0]
        _done(library().run(
            ctypes.byref(self._model), ctypes.byref(self._memory()), c_int64(len(token)), c_int64(n_fresh), _at(token),
            _at(position), _at(slot), _at(begin), _at(flat), c_int64(len(flat)), c_int64(len(asked)), _at(asked), _at(self.hidden),
        ))  # fmt: skip

    def after(self, slots: Sequence[int]) -> torch.Tensor:
        """Logits [N, V] that follow ``slots``, whose hidden states are known."""
        hidden = self.hidden[torch.from_numpy(_integers(slots))]
        logits = hidden.new_empty(len(hidden), -(-self.vocab // PANEL) * PANEL)
        _done(library().logits(ctypes.byref(self._model), c_int64(len(hidden)), _at(hidden), _at(logits)))
        return logits[:, : self.vocab]

    def sample(
        self, prefilled: Prefilled, owner: Sequence[int], uniforms: np.ndarray, temperature: float, top_p: float, *,
        end: int, batch: int,
    ) -> tuple[list[tuple[int, ...]], list[float]]:
        """See :meth:`common.lm.llama.Llama.sample`."""
        decode.check_rows(len(prefilled.paths), owner, uniforms, batch)
        rows, limit = uniforms.shape
        decode.check_sampling(temperature, top_p, limit)
        if not rows:
            return [], []
        begin, length, flat = _laid([prefilled.paths[i] for i in owner])
        owner, uniforms = _integers(owner), np.ascontiguousarray(uniforms, dtype=np.float64)
        tokens, counts, logprobs = np.zeros((rows, limit), np.int64), np.zeros(rows, np.int64), np.zeros(rows)
        memory = self._memory(min(batch, rows, SEATS), max(limit - 1, 1))
        long = 2 * sum(weight.numel() for weight in self._packed) * rows * limit > LONG
        _done((_interruptible if long else _at_once)(
            library().sample, ctypes.byref(self._model), ctypes.byref(memory), c_int64(rows), _at(owner), _at(begin), _at(length),
            _at(flat), c_int64(len(flat)), _at(prefilled.logits), c_int64(len(prefilled.logits)), c_int64(limit), _at(uniforms),
            c_float(min(temperature, HOTTEST)), c_double(top_p), c_int64(end), _at(tokens), _at(counts), _at(logprobs),
        ))  # fmt: skip
        return [tuple(row[:n]) for row, n in zip(tokens.tolist(), counts.tolist(), strict=True)], logprobs.tolist()


def _at_once(function: Callable[..., int], *arguments: object) -> int:
    return function(*arguments, ctypes.byref(c_int64(0)))


def _interruptible(function: Callable[..., int], *arguments: object) -> int:
    """``function(*arguments, stop)``, run in a thread, which it leaves when ``stop`` is set: Python handles a Ctrl-C between
    its own instructions only, and answers of a large model are one call of half a minute."""
    stop, code, done = c_int64(0), [], Event()  # an event: a join that was interrupted takes the thread for ended

    def work() -> None:
        code.append(function(*arguments, ctypes.byref(stop)))
        done.set()

    Thread(target=work).start()
    try:
        done.wait()
    except BaseException:
        stop.value = 1
        done.wait()
        raise
    return code[0]


def _at(array: np.ndarray | torch.Tensor | None) -> c_void_p:
    """Where the numbers are."""
    if array is None:
        return c_void_p(None)
    return c_void_p(array.data_ptr() if isinstance(array, torch.Tensor) else array.ctypes.data)


def _integers(values: object) -> np.ndarray:
    return np.fromiter(values, dtype=np.int64)


def _laid(paths: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each path begins in the last of these, its length, and all paths one after the other."""
    length = _integers(map(len, paths))
    return length.cumsum() - length, length, _integers(chain.from_iterable(paths))


def _done(code: int) -> None:
    """Raise for what ``native.c`` could not do: see there for its codes."""
    if code == NO_MEMORY:
        raise MemoryError("sampling: no memory for a batch of this size; use a smaller batch or shorter answers")
    if code == NOT_FINITE:
        raise decode.NotFinite(decode.LOGITS)
    if code:
        raise ValueError("native.c: a number is outside its range (a token, a position, a slot or a length), so nothing was computed; "
                         "prompts and answers must fit the model's vocabulary and context")
