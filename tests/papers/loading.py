"""Saved models kept in memory: reading a nano model from its folder takes longer than a few updates of it."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from common.lm import models


def remember_models(patch: pytest.MonkeyPatch) -> None:
    """Read a saved model and its tokenizer from the disk once; equal files give copies of what was read then.

    A unit that is resumed at each of its stages reads its models hundreds of times. What a file holds decides what is given,
    not its path: a model that was saved otherwise is read.
    """
    known: dict[str, Any] = {}

    def once(kind: type, suffixes: tuple[str, ...]) -> SimpleNamespace:
        def from_pretrained(path: Path, **how) -> Any:
            held = hashlib.sha256(repr((kind, how)).encode())
            for file in sorted(file for file in Path(path).iterdir() if file.suffix in suffixes):
                held.update(b"%s %d " % (file.name.encode(), file.stat().st_size) + file.read_bytes())
            if (digest := held.hexdigest()) not in known:
                known[digest] = kind.from_pretrained(path, **how)
            return copy.deepcopy(known[digest])

        return SimpleNamespace(from_pretrained=from_pretrained)

    patch.setattr(models, "AutoModelForCausalLM", once(AutoModelForCausalLM, (".json", ".safetensors")))
    patch.setattr(models, "AutoTokenizer", once(AutoTokenizer, (".json", ".jinja")))
