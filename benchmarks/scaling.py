"""Memory and time by model size and number of GPUs: ``python -m benchmarks.scaling`` fills the tables of docs/scaling.md.

Calculated rows follow from the shapes of the models and the data sheets of the GPUs by the functions below. Measured rows
are read from ``benchmarks/scaling.json``, which ``python -m benchmarks.scaling measure`` writes; ``accelerate launch … -m
benchmarks.scaling measure`` adds those of several processes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE, MEASURED = ROOT / "docs" / "scaling.md", ROOT / "benchmarks" / "scaling.json"


@dataclass(frozen=True)
class Shape:
    """A Llama: width, layers, query heads, key-value heads, size of a head, inner width, vocabulary, tied embeddings."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    inner: int
    vocab: int
    tied: bool

    @property
    def of_layers(self) -> int:
        attention = 2 * self.width * self.head * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.width * self.inner + 2 * self.width)

    @property
    def parameters(self) -> int:
        return self.vocab * self.width * (1 if self.tied else 2) + self.of_layers + self.width

    @property
    def cached(self) -> int:
        """Numbers that the KV cache keeps for a token."""
        return 2 * self.layers * self.kv_heads * self.head

    @property
    def activations(self) -> int:
        """Numbers that a training pass keeps for a token until its gradient: of each layer the inputs of its two norms, of
        its products and of its attention (no scores: attention recomputes them), and gate, up and their product."""
        return self.layers * (5 * self.width + self.head * (2 * self.heads + 2 * self.kv_heads) + 4 * self.inner)


SHAPES = {
    "nano, 0.3 M": Shape(96, 2, 4, 4, 24, 288, 400, True),  # benchmarks/models.py
    "SmolLM2, 135 M": Shape(576, 30, 9, 3, 64, 1536, 49152, True),
    "SmolLM2, 1.7 B": Shape(2048, 24, 32, 32, 64, 8192, 49152, True),
    "Llama 3.1, 8 B": Shape(4096, 32, 32, 8, 128, 14336, 128256, False),
}


@dataclass(frozen=True)
class Gpu:
    """Data sheet of the SXM module: memory in GB, its bandwidth in TB/s, TFLOP/s of float32 and of dense bfloat16 products,
    GB/s to the other GPUs in one direction."""

    memory: float
    bandwidth: float
    float32: float
    bfloat16: float
    link: float


GPUS = {"H100": Gpu(80, 3.35, 66.9, 989.4, 450), "H200": Gpu(141, 4.8, 66.9, 989.4, 450)}
MFU = 0.4
"""Assumed share of the data sheet's products per second that training reaches; not measured here."""
COUNTS = (1, 2, 8)
TOKENS, LENGTH, SCORED = 16_384, 512, 0.5
"""An update of the tables: its tokens, those of a row, and the share that carries loss."""
ROWS, PROMPT, NEW = 64, 256, 256
"""A call that samples: rows, tokens of a prompt, new tokens."""


def training_bytes(shape: Shape, tokens: float, *, gpus: int = 1, sharded: bool = False) -> float:
    """Bytes on each GPU of a full fine-tuning whose update has ``tokens`` tokens on all GPUs together.

    Whole: float32 weights, gradients and Adam's two moments, 16 a parameter, 4 for the layers' weights with norms multiplied
    in (common/lm/llama.py), float32 activations and twice the logits of scored tokens. ``sharded`` (FSDP): the 16 over all
    GPUs; two layers or embeddings at a time gathered in bfloat16; activations in bfloat16 kept at the layers' ends only, but
    for the layer at work.
    """
    own = tokens / gpus
    logits = 2 * 4 * SCORED * own * shape.vocab
    if not sharded:
        return 16 * shape.parameters + 4 * shape.of_layers + 4 * own * shape.activations + logits
    layer = shape.activations / shape.layers
    gathered = 2 * 2 * max(shape.of_layers / shape.layers, shape.vocab * shape.width)
    return 16 * shape.parameters / gpus + gathered + 2 * own * (shape.layers * shape.width + layer) + logits


def update_flops(shape: Shape, tokens: float, length: float = LENGTH) -> float:
    """Operations of an update: 6 a parameter and token, and 6 · layers · heads' width · length for causal attention. What
    activation checkpointing computes twice does not count."""
    return tokens * (6 * shape.parameters + 6 * shape.layers * shape.heads * shape.head * length)


def mfu(shape: Shape, one: dict) -> float | None:
    """Share of the data sheet's products that a measured update reached (model FLOPs utilisation, Chowdhery et al. 2022,
    arXiv:2204.02311), None on processors and on a GPU that is not in :data:`GPUS`."""
    gpu = next((gpu for name, gpu in GPUS.items() if name in one["device"]), None)
    if gpu is None:
        return None
    peak = 1e12 * (gpu.bfloat16 if one["bfloat16"] else gpu.float32)
    return update_flops(shape, one["tokens"], one["length"]) / (one["ranks"] * one["seconds"] * peak)


def update_seconds(shape: Shape, gpu: Gpu, *, gpus: int, bfloat16: bool = False) -> float:
    """Seconds of an update: products at :data:`MFU`, then a ring's sum of float32 gradients, not overlapped."""
    peak = 1e12 * (gpu.bfloat16 if bfloat16 else gpu.float32)
    summing = 2 * (gpus - 1) / gpus * 4 * shape.parameters / (gpu.link * 1e9)
    return update_flops(shape, TOKENS) / (gpus * peak * MFU) + summing


def sampling_bytes(shape: Shape, *, gpus: int) -> float:
    """Bytes on each GPU of float32 weights, those of layers twice (as in training), and the KV cache of its rows at their end."""
    return 4 * (shape.parameters + shape.of_layers + ROWS / gpus * (PROMPT + NEW) * shape.cached)


def sampling_seconds(shape: Shape, gpu: Gpu, *, gpus: int) -> float:
    """The least time for the new tokens of a call whose rows are divided: each step reads weights and cache once, float32."""
    read = 4 * (shape.parameters + ROWS / gpus * (PROMPT + NEW / 2) * shape.cached)
    return NEW * read / (gpu.bandwidth * 1e12)


# -- tables -----------------------------------------------------------------------------------------------


def size(count: float) -> str:
    """Bytes in words of three figures."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            return f"{count / scale:,.0f} {unit}" if count >= 100 * scale else f"{count / scale:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"


def seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 1 else f"{1e3 * value:.3g} ms"


def table(head: str, rows: list[list[str]]) -> str:
    columns = head.split(" | ")
    return "\n".join("| " + " | ".join(line) + " |" for line in [columns, ["---"] * len(columns), *rows])


def fits(count: float) -> str:
    """The GPUs of the list that hold ``count`` bytes with a tenth to spare."""
    return ", ".join(name for name, gpu in GPUS.items() if 1.1 * count <= gpu.memory * 1e9) or "none"


def memory_table() -> str:
    rows = []
    for name, shape in SHAPES.items():
        p = shape.parameters
        for gpus in COUNTS:
            whole = training_bytes(shape, TOKENS, gpus=gpus)
            rows.append([name, str(gpus), "whole", size(4 * p), size(4 * p), size(8 * p), size(whole - 16 * p), size(whole),
                         fits(whole), "calculated"])  # fmt: skip
        shard = training_bytes(shape, TOKENS, gpus=8, sharded=True)
        rows.append([name, "8", "FSDP", size(p / 2), size(p / 2), size(p), size(shard - 2 * p), size(shard), fits(shard),
                     "calculated"])  # fmt: skip
    return table("model | GPUs | weights are | weights | gradients | Adam | for a pass | on each GPU | fits | how", rows)


def time_table() -> str:
    rows = []
    for name, shape in SHAPES.items():
        for gpus in COUNTS:
            rows.append([name, str(gpus), *(seconds(update_seconds(shape, GPUS["H100"], gpus=gpus, bfloat16=bf16))
                                            for bf16 in (False, True)), "calculated"])  # fmt: skip
    return table("model | GPUs | an update, float32 | an update, bfloat16 | how", rows)


def sampling_table() -> str:
    rows = []
    for name, shape in SHAPES.items():
        for gpus in COUNTS:
            rows.append([name, str(gpus), size(4 * shape.cached), size(sampling_bytes(shape, gpus=gpus)),
                         *(seconds(sampling_seconds(shape, gpu, gpus=gpus)) for gpu in GPUS.values()), "calculated"])  # fmt: skip
    return table("model | GPUs | cache of a token | weights and cache on each GPU | least time, H100 | least time, H200 | how",
                 rows)  # fmt: skip


def measured_table(found: dict[str, dict]) -> str:
    rows = []
    for one in found.values():
        shape = SHAPES[one["model"]]
        expected = training_bytes(shape, one["tokens"], gpus=one["ranks"])
        reached = mfu(shape, one)
        rows.append([one["model"], one["device"], str(one["ranks"]), f"{one['tokens']:,.0f}", seconds(one["seconds"]),
                     f"{one['tokens'] / one['seconds']:,.0f}", "–" if reached is None else f"{reached:.2f}", size(one["bytes"]),
                     "measured", size(expected)])  # fmt: skip
    return table("model | on | processes | tokens of an update | an update | tokens/s | MFU | memory of each | how | "
                 "memory, calculated", rows)  # fmt: skip


def tables(found: dict[str, dict]) -> dict[str, str]:
    """The text between the marks ``<!-- table of NAME -->`` and ``<!-- end of NAME -->`` of the page, by name."""
    return {"memory": memory_table(), "time": time_table(), "sampling": sampling_table(), "measured": measured_table(found)}


def filled(page: str, found: dict[str, dict]) -> str:
    """The page with its tables as they are now. ValueError for a page without one of the marks."""
    for name, text in tables(found).items():
        mark = re.compile(rf"(<!-- table of {name} -->\n).*?(<!-- end of {name} -->)", re.S)
        page, count = mark.subn(lambda m, text=text: f"{m[1]}\n{text}\n\n{m[2]}", page)
        if count != 1:
            raise ValueError(f"docs/scaling.md: the marks of table {name} stand there {count} times but must once; add them")
    return page


# -- measuring --------------------------------------------------------------------------------------------


def measure(name: str, updates: int) -> dict:
    """Median seconds of ``updates`` updates of SFT after two others, tokens of an update and of a row, and the memory of a
    process: what it grew by, on a GPU the most that torch had allocated. There an update is as large as that of the tables."""
    import torch

    from benchmarks.models import nano, pretrained, prompts
    from common import ranks
    from common.learn.batches import SFTExample
    from common.learn.policy import sft
    from common.learn.settings import TrainSettings
    from common.lm.device import on_device

    torch.set_num_threads(1)
    gpu = torch.cuda.is_available()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    small = name.startswith("nano")
    full = gpu and not small
    model, tokenizer = on_device(*(nano(width=96, layers=2) if small else pretrained()))
    rows = TOKENS // LENGTH if gpu or small else 4
    words = (220, 230) if full else (30, 12)  # rows of some 512 tokens of SmolLM2, half of them scored
    examples = [SFTExample(chat, answer[0]["content"]) for chat, answer in
                zip(prompts((updates + 2) * rows, words[0]), prompts((updates + 2) * rows, words[1], seed=1), strict=True)]  # fmt: skip
    settings = TrainSettings(lr=1e-4, epochs=1, batch_size=rows, max_length=2 * LENGTH if full else 256)
    ends: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        stats = sft(model, tokenizer, examples, settings, seed=0, out_dir=Path(folder),
                    log=lambda *_: ends.append(time.perf_counter()))  # fmt: skip
    took = [later - earlier for earlier, later in zip(ends[1:], ends[2:], strict=False)]
    grown = torch.cuda.max_memory_allocated() if gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    tokens = stats.tokens / stats.updates
    return {"model": name, "device": torch.cuda.get_device_name() if gpu else "processor", "ranks": ranks.world_size(),
            "bfloat16": next(model.parameters()).dtype == torch.bfloat16, "tokens": tokens, "length": tokens / rows,
            "bytes": max(ranks.all_gather(grown)), "seconds": statistics.median(took) if took else 0.0}  # fmt: skip - only rank 0 logs


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("what", nargs="?", choices=["measure"], help="measure again on this machine, with these processes")
    parser.add_argument("--model", choices=list(SHAPES)[:2], default=next(iter(SHAPES)), help="what to measure")
    parser.add_argument("--updates", type=int, default=20)
    asked = parser.parse_args()
    found = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else {}
    if asked.what:
        from common import ranks

        ranks.join()
        one = measure(asked.model, asked.updates)
        if ranks.rank():
            return
        found[f"{one['model']}, {one['device']}, {one['ranks']} processes"] = one
        MEASURED.write_text(json.dumps(dict(sorted(found.items())), indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")
    print("\n\n".join(f"{name}\n{text}" for name, text in tables(found).items()))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
