"""Random calls of ``native.c``, built with AddressSanitizer and UndefinedBehaviorSanitizer: a process of its own for test_sanitized.py.

    LD_PRELOAD="libasan.so libstdc++.so" ASAN_OPTIONS=detect_leaks=0 python tests/lm/fuzz_native.py FOLDER SEED CALLS

Half of the calls go through ``native.py``, as the engine's do, half to the functions of the library themselves, with one or two of
their arguments outside the range. What must not happen ends the process: a read or write outside an array, undefined behaviour. Prints
how many calls were done and how many were refused.
"""

from __future__ import annotations

import ctypes
import math
import shutil
import sys
from collections import Counter
from ctypes import c_double, c_float, c_int64
from pathlib import Path

import numpy as np
import torch

from common.lm import native
from common.lm.decode import NotFinite
from tests.lm.test_llama import random_llama

SANITIZED = ("-O1", "-g", "-march=native", "-std=gnu11", "-fPIC", "-shared", "-fno-omit-frame-pointer",
             "-fsanitize=address,undefined", "-fno-sanitize-recover=all")  # fmt: skip
VOCAB, CONTEXT = 53, 24
COUNTS = (-(2**62), -7, -1, 0, 1, 2, 3, CONTEXT - 1, CONTEXT, CONTEXT + 1, VOCAB, 10**6, 2**31, 2**62)
"""Numbers around all boundaries."""


def shapes() -> list[dict[str, int]]:
    common = {"vocab_size": VOCAB, "max_position_embeddings": CONTEXT}
    return [
        common | {"hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 24, "num_hidden_layers": 2},
        common | {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 70, "num_hidden_layers": 1},
    ]


class Guarded(native.Native):
    """What C reads and writes lies in NumPy's memory, which the sanitizer watches; torch's own it does not see the ends of."""

    def take(self) -> None:
        super().take()
        self.kept = {name: np.array(getattr(self, name)) for name in ("embed", "norm", "turns")}
        for name, array in self.kept.items():
            setattr(self._model, name, array.ctypes.data)

    def _memory(self, seats: int = 0, room: int = 0) -> native.MemoryStruct:
        self._own = torch.from_numpy(np.empty(2 * self.depth * seats * room * self.split[1], np.float32))
        return super()._memory(seats, room)


class Fuzz:
    def __init__(self, seed: int) -> None:
        self.rng, self.seen = np.random.default_rng(seed), Counter()
        self.models = [Guarded(random_llama(**shape)) for shape in shapes()]
        for own in self.models:
            own.refresh()

    def number(self, usual: int) -> int:
        return int(self.rng.choice(COUNTS)) if self.rng.random() < 0.3 else int(self.rng.integers(1, usual + 1))

    def real(self) -> float:
        odd = (math.nan, math.inf, -math.inf, -1.0, -1e-300, 0.0, 1e-300, 1e-40, 1.0, 1e300, 1.0000001)
        return float(self.rng.choice(odd)) if self.rng.random() < 0.3 else float(self.rng.random() * 1.5)

    # -- as the engine calls -----------------------------------------------------------------------------------------

    def through_python(self, own: native.Native) -> None:
        rng, tokens = self.rng, (lambda n: rng.integers(0, VOCAB, size=n).tolist())
        rows = [tokens(int(rng.integers(1, CONTEXT))) for _ in range(int(rng.integers(1, 6)))]
        if rng.random() < 0.2:
            rows[0] = [*rows[0], int(rng.choice([-1, VOCAB - 1, VOCAB, 2**40, -(2**40)]))]
        if rng.random() < 0.1:
            rows[-1] = tokens(int(rng.choice([0, CONTEXT, CONTEXT + 1, 3 * CONTEXT])))
        if rng.random() < 0.1:
            own.forget()
        prefilled = own.prefill(rows)
        if rng.random() < 0.3:
            prefilled.follow([0] * 2, [tokens(int(rng.integers(1, 5))), tokens(3)], last=bool(rng.random() < 0.5))
            return
        room, many = CONTEXT - max(map(len, rows)), int(rng.integers(1, 60))
        limit = int(rng.integers(0, CONTEXT + 2)) if rng.random() < 0.3 else int(rng.integers(1, max(2, room + 1)))
        owner = rng.integers(0, len(rows), size=many).tolist()
        if rng.random() < 0.1:
            owner[-1] = int(rng.choice([-1, len(rows), 2**40]))
        uniforms = rng.random((many, limit))
        if limit and rng.random() < 0.1:
            uniforms[-1, -1] = rng.choice([1.0, -0.0, math.nan, -1e-9, 1.0 - 2**-53])
        top_p = 1.0 if rng.random() < 0.4 else self.real()
        found, logprobs = prefilled.sample(owner, uniforms, self.real(), top_p, end=int(rng.integers(-1, VOCAB)), batch=self.number(30))
        assert all(1 <= len(row) <= limit and 0 <= min(row) and max(row) < VOCAB for row in found) and not any(map(math.isnan, logprobs))

    # -- the functions themselves ------------------------------------------------------------------------------------

    def bent(self, numbers: np.ndarray) -> np.ndarray:
        """One number somewhere else, sometimes."""
        if numbers.size and self.rng.random() < 0.15:
            numbers[int(self.rng.integers(numbers.size))] = self.rng.choice(COUNTS)
        return numbers

    def directly(self, own: native.Native) -> int:
        rng, at = self.rng, native._at
        n, limit, seats = int(rng.integers(1, 9)), int(rng.integers(1, 9)), int(rng.integers(1, 5))
        length = rng.integers(1, CONTEXT - limit + 1, size=n)
        begin, slots = length.cumsum() - length, rng.integers(0, 200, size=int(length.sum()))
        own._reserve(200)
        first = rng.standard_normal((3, -(-VOCAB // 32) * 32)).astype(np.float32)
        first[:, VOCAB:] = -math.inf
        if rng.random() < 0.1:
            first[int(rng.integers(3)), int(rng.integers(VOCAB))] = float(rng.choice([math.nan, math.inf, -math.inf]))
        memory = own._memory(seats, max(limit - 1, 1))
        # Sizes that say how much memory there is are the caller's word; they may be bent to less only.
        claimed = native.MemoryStruct(memory.kv, memory.capacity, memory.own, memory.seats, memory.room)
        if rng.random() < 0.1:
            claimed.capacity = int(rng.integers(-1, 200))
        if rng.random() < 0.1:
            claimed.room = int(rng.integers(-1, memory.room + 1))
        if rng.random() < 0.1:
            claimed.seats = int(rng.integers(-1, memory.seats + 1))
        begin, length, slots = self.bent(begin), self.bent(length), self.bent(slots)
        if rng.random() < 0.3:
            count = int(min(n, len(slots)))
            token, position = self.bent(rng.integers(0, VOCAB, size=count)), self.bent(rng.integers(0, 3, size=count))
            slot, start = self.bent(rng.integers(0, 200, size=count)), self.bent(rng.integers(0, len(slots), size=count))
            asked = self.bent(np.sort(rng.permutation(count)[: int(rng.integers(0, count + 1))]))
            fresh = int(rng.choice([count, 0, count + 1, -1, 2**62])) if rng.random() < 0.2 else count
            return native.library().run(
                ctypes.byref(own._model), ctypes.byref(claimed), c_int64(count), c_int64(fresh), at(token), at(position), at(slot),
                at(start), at(slots), c_int64(len(slots)), c_int64(len(asked)), at(asked), at(own.hidden))  # fmt: skip
        uniforms = rng.random((n, limit))
        if rng.random() < 0.1:
            uniforms[-1, -1] = rng.choice([1.0, -1e-9, math.nan, math.inf])
        owner = self.bent(rng.integers(0, 3, size=n))
        tokens, counts, logprobs = np.zeros((n, limit), np.int64), np.zeros(n, np.int64), np.zeros(n)
        bent_limit = int(rng.choice([-1, 0, limit - 1, -(2**62)])) if rng.random() < 0.1 else limit
        bent_n = int(rng.choice([-1, 0, n - 1, -(2**62)])) if rng.random() < 0.1 else n
        return native.library().sample(
            ctypes.byref(own._model), ctypes.byref(claimed), c_int64(bent_n), at(owner), at(begin), at(length), at(slots),
            c_int64(len(slots)), at(first), c_int64(len(first)), c_int64(bent_limit), at(uniforms), c_float(self.real()),
            c_double(self.real()), c_int64(int(rng.integers(-1, VOCAB))), at(tokens), at(counts), at(logprobs),
            ctypes.byref(c_int64(0)))  # fmt: skip

    def call(self) -> None:
        own = self.models[int(self.rng.integers(len(self.models)))]
        try:
            if self.rng.random() < 0.5:
                self.through_python(own)
                self.seen["done"] += 1
            else:
                code = self.directly(own)
                own.forget()  # keys and values of any slots were written
                self.seen[{native.NO_MEMORY: "no memory", native.OUT_OF_RANGE: "refused", native.NOT_FINITE: "not finite"}.get(code, "done")] += 1
        except (ValueError, NotFinite):
            self.seen["refused"] += 1


def main(folder: str, seed: int, calls: int) -> None:
    source = Path(folder) / "native.c"
    shutil.copy(native.SOURCE, source)
    native.SOURCE, native.FLAGS = source, SANITIZED
    native.library.cache_clear()  # imports have asked for the usual one
    if isinstance(native.library(), str):
        sys.exit(f"SKIP {native.library()}")
    torch.set_num_threads(1)
    fuzz = Fuzz(seed)
    with torch.inference_mode():
        for _ in range(calls):
            fuzz.call()
    assert b"__asan_report" in Path(native.library()._name).read_bytes()
    print(f"{calls} calls: {dict(sorted(fuzz.seen.items()))}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
