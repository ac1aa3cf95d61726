"""A unit that ran out of memory: what was asked for, what there is, and what to try, in one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_GPU = re.compile(r"CUDA out of memory|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED")
_PROCESSOR = re.compile(r"DefaultCPUAllocator: can't allocate memory|MemoryError")
_KILLED = re.compile(r"DeadKernelError")
_ASKED = re.compile(r"(?:[Tt]ried to|Unable to) allocate ([\d.]+) (\w+)")
_CAPACITY = re.compile(r"total capacity of ([\d.]+ \w+) of which ([\d.]+ \w+) is free")
_SIZES = re.compile(r"batch$|answer_tokens$")
"""Names of the parameters that say how much is in memory at once."""
GIB = 2**30


def out_of_memory(error: str, params: Mapping[str, Any]) -> str | None:
    """The sentence for ``error``, what ended the notebook as "type: message"; None where it is another one.

    ``params`` are the unit's resolved parameters, sections nested. A kernel that dies without a word counts too: most
    often it was the system that ended it for want of memory.
    """
    if _GPU.search(error):
        what = "out of memory on the GPU"
    elif _PROCESSOR.search(error):
        what = "out of memory on the processor"
    elif _KILLED.search(error):
        what = "the notebook's kernel was ended from outside, most often because memory ran out"
    else:
        return None
    numbers = ", ".join(filter(None, [_asked(error), _free(error)]))
    tries = _tries(params)
    return (f"{what}{numbers and f' ({numbers})'}; {tries and f'{tries}, which makes another unit, or '}make room, for instance by "
            "fewer --workers, and run the same command, which goes on after the last finished stage")


def _asked(error: str) -> str:
    found = _ASKED.search(error)
    if not found:
        return ""
    amount, unit = found.groups()
    return f"{f'{int(amount) / GIB:.2f} GiB' if unit == 'bytes' else f'{amount} {unit}'} more were asked for"


def _free(error: str) -> str:
    """Of the GPU as its error says, else of the machine as it is now."""
    if _GPU.search(error):
        found = _CAPACITY.search(error)
        return f"{found[2]} of {found[1]} were free" if found else ""
    import psutil

    memory = psutil.virtual_memory()
    return f"{memory.available / GIB:.2f} of {memory.total / GIB:.2f} GiB are free now"


def _tries(params: Mapping[str, Any]) -> str:
    sizes = [f"{name} ({value})" for name, value in _flat(params) if _SIZES.search(name)]
    found = [f"halve {' or '.join(sizes)}"] if sizes else []
    if params.get("lora_rank") == 0 and params.get("model") != "nano":
        found.append("train adapters (lora_rank 32)")
    return " or ".join(found)


def _flat(params: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in params.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value
