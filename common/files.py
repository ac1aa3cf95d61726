"""Atomic file writes, which a kill or a full disk cannot leave half done, and one-sentence errors of the run store."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class StoreError(RuntimeError):
    """The run store cannot be used. The message is one sentence with the path, the rule and the next step."""


_FULL = (errno.ENOSPC, errno.EDQUOT)
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
_BROKEN = (errno.EIO, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG)


@contextmanager
def storage(path: Path) -> Iterator[None]:
    """Turn a failure to write inside the block into a StoreError that says what to do about ``path``.

    Recognised: a full disk (also when a library only mentions it in its message, as safetensors does),
    a read-only place, a broken one. Any other error passes unchanged.
    """
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        code = error.errno if isinstance(error, OSError) else None
        if code in _FULL or "No space left on device" in str(error):
            advice = "the disk is full; free some space and run again, finished stages are kept"
        elif code in _READ_ONLY:
            advice = f"it is not writable ({os.strerror(code)}); make it writable or work in a writable copy"
        elif code in _BROKEN:
            advice = f"the system refused ({os.strerror(code)}); repair or remove what is there and run again"
        else:
            raise
        raise StoreError(f"cannot write {path}: {advice}") from error


def canonical(value: Any, what: str) -> str:
    """One line of JSON with sorted keys and shortest floats. StoreError for NaN, infinity or non-JSON types."""
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StoreError(f"{what} cannot be written as JSON ({error}); use numbers, text, lists and mappings of "
                         "finite values") from None


def write_atomic(path: Path, text: str) -> None:
    """Write a file all or nothing: temporary file in the same folder, fsync, rename, fsync of the folder."""
    with storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


@contextmanager
def folder_atomic(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder that becomes ``path`` when the block ends without an error.

    An existing ``path`` is replaced. A kill inside the block leaves ``path`` as it was.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with storage(path):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    with open(file, "rb") as handle:
                        os.fsync(handle.fileno())
            if path.exists():
                shutil.rmtree(path)
            os.replace(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    """Make a rename inside ``path`` survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
