"""On which processor numbers were computed, and with which of its instructions the numeric code ran.

Another processor, or other instructions, sums in another order, so that the last bits of a number differ and a training ends elsewhere.
A run folder holds ``processor.json``, a list with one entry for each processor that worked on it: more than one where a unit was
interrupted and went on elsewhere. ``source.json`` beside a published table has the same list of all its units. No key holds them.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.files import write_atomic

FILE = "processor.json"

LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR")
"""Variables by which libraries below PyTorch are held to older instructions; they tell nobody which ones they take."""

CODE = ("PyTorch", "native.c")
"""Numeric code that says which instructions it takes."""

Processor = Mapping[str, str]
"""``model`` and ``limits`` ("" for none); the instructions of each of :data:`CODE` that the process had loaded; ``gpu`` where PyTorch
found one."""


def model() -> str:
    """The processor's name with its family and model number, which tell generations apart whose name is the same."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
    except OSError:
        return platform.processor() or platform.machine()
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())}
    numbers = [f"{name} {facts[key]}" for name, key in (("family", "cpu family"), ("model", "model")) if key in facts]
    return ", ".join([facts.get("model name") or platform.machine(), *numbers])


def present() -> dict[str, str]:
    """This machine's processor as the code that this process has loaded uses it. What is not loaded has computed nothing, and is not
    loaded, nor built, for the question."""
    torch, native = sys.modules.get("torch"), sys.modules.get("common.lm.native")
    found = {"model": model(), "limits": " ".join(f"{name}={os.environ[name]}" for name in LIMITS if os.environ.get(name))}
    found |= {"PyTorch": torch.backends.cpu.get_cpu_capability()} if torch else {}
    found |= {"native.c": native.instructions()} if native and native.library.cache_info().currsize else {}
    return found | ({"gpu": torch.cuda.get_device_name()} if torch and torch.cuda.is_available() else {})


def alike(one: Processor, other: Processor) -> bool:
    """Whether both are the same with the same instructions. Code that one of them had not loaded computed nothing there."""
    return all(one.get(name) == other.get(name) for name in {*one, *other} if name not in CODE or name in one and name in other)


def keep(folder: Path) -> None:
    """Add the present processor to what ``folder`` says; called after something was computed, when the code that did it is loaded."""
    before, own = read(folder), present()
    found = merged([[own if alike(own, one) and {**one, **own} == own else one for one in before], [own]])
    if found != before:
        write_atomic(folder / FILE, json.dumps(found, indent=1) + "\n")


def read(folder: Path) -> list[Processor]:
    """The processors that worked on a run folder; none where it does not say, as those from before there was such a record."""
    try:
        return json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []


def merged(several: Sequence[Sequence[Processor]]) -> list[Processor]:
    """Each entry of all of them once, in the order of their text."""
    return [json.loads(text) for text in sorted({json.dumps(one, sort_keys=True) for found in several for one in found})]


def described(found: Sequence[Processor]) -> str:
    """For people: processors and instructions, several of them joined by "and"."""
    parts = [(one["model"], *(f"{name} {one[name]}" for name in CODE if name in one), one["limits"], one.get("gpu")) for one in found]
    return " and ".join(", ".join(filter(None, one)) for one in parts)
