"""The run store: one folder per unit, finished stages are resume points, one process at a time.

``runs/<paper>/<key>/``: ``unit.json``, ``config.resolved.json``, ``processor.json``, ``events.jsonl``, ``stages/<name>.json``
with an optional folder ``stages/<name>/`` and the sizes and hashes of its files in ``stages/.<name>.files``,
``rows.jsonl``, ``artifacts/``, ``notebook.ipynb`` (put there by the sweep), and ``DONE``, written last.

    run = Run.open(root, unit)
    if not run.finished:
        pairs = run.stage("pairs", build_pairs)             # computed once, also across kills
        def train():
            with run.stage_dir("dpo") as folder:             # all or nothing
                model.save_pretrained(folder)
            return {"loss": loss}
        run.stage("dpo", train)
        run.write_rows(rows)
        run.finish()
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from common.config.strict import ConfigError
from common.files import StoreError, canonical, folder_atomic, storage, write_atomic
from common.rows import MetricRow, read_metrics, write_metrics
from common.track import processor

_STAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.,=+@-]{0,119}")


@dataclass(frozen=True)
class UnitSpec:
    """Identity of a unit. Hashes are hex texts.

    In the key is everything that its results depend on: ``params``, the canonical JSON of ``common.config.to_json``;
    ``room``, the hash of the code in the paper's own folder; ``layers``, the fingerprint of each shared layer and the hash of
    each other file that the code reaches (:mod:`common.track.layers`); ``data``, the hash of each panel or file; ``base``,
    that of the base model ("" when the unit uses none); ``pins``, that of the numeric libraries' versions.

    In no key, to tell what was run: ``code``, the digest of ``common.track.code.code_hash``; ``lock``, the hash of the whole
    environment lock; ``digests``, those of the code of room and layers. A unit without ``room`` was computed before keys had
    layers: its key has ``code`` and ``lock``.
    """

    paper: str
    env: str
    seed: int
    profile: str
    params: str
    room: str
    layers: Mapping[str, str]
    data: Mapping[str, str]
    base: str
    pins: str
    code: str = ""
    lock: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The first 64 bits of the SHA-256 of all that the unit's results depend on, as 16 hex characters."""
        content = [self.paper, self.env, self.seed, self.profile, json.loads(self.params)]
        if self.room:
            content += [self.room, dict(self.layers), dict(self.data), self.base, self.pins]
        else:
            content += [self.code, dict(self.data), self.base, self.lock]
        return hashlib.sha256(canonical(content, "unit").encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """For people: ``agent_q shop-v1 seed 0 cpu``."""
        return f"{self.paper} {self.env} seed {self.seed} {self.profile}"


def unit_path(root: Path, unit: UnitSpec) -> Path:
    """``<root>/runs/<paper>/<key>``, whether it exists or not."""
    return root / "runs" / unit.paper / unit.key


def is_finished(root: Path, unit: UnitSpec) -> bool:
    """True when the unit's DONE marker is there; needs no lock."""
    return (unit_path(root, unit) / "DONE").exists()


def read_unit(path: Path) -> UnitSpec:
    """The unit of a run folder, from its ``unit.json``. StoreError when it is missing or damaged."""
    try:
        content = json.loads((path / "unit.json").read_text(encoding="utf-8"))
        return UnitSpec(**content if "room" in content else content | {"room": "", "layers": {}, "pins": ""})
    except (OSError, TypeError, ValueError) as error:
        raise StoreError(f"{path / 'unit.json'} is not a unit ({error}); "
                         "delete that run folder and run again") from None


class Run:
    """One unit's folder, locked by this process until :meth:`close` or the process ends, however it ends."""

    def __init__(self, path: Path, unit: UnitSpec) -> None:
        """Use :meth:`open`."""
        self.path, self.unit = path, unit
        self._whole: set[str] = set()  # stages whose files were found to be those that were saved

    @classmethod
    def open(cls, root: Path, unit: UnitSpec) -> Run:
        """Create or continue the unit's folder and lock it; opening it again in this process is allowed.

        A finished unit is opened without a lock, to be read. Raises StoreError when another process is
        executing the same unit or when the folder cannot be written.
        """
        run = cls(unit_path(root, unit), unit)
        if run.finished:
            return run
        with storage(run.path):
            (run.path / "stages").mkdir(parents=True, exist_ok=True)
            run.artifacts.mkdir(exist_ok=True)
            _lock(run.path / "lock", unit.name)
        if run.finished:  # by the process that held the lock until now
            run.close()
            return run
        with storage(run.path):
            for left in (run.path / "stages").glob(".*.tmp"):  # by a process that was killed while it wrote
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        write_atomic(run.path / "unit.json", canonical(asdict(unit), "unit") + "\n")
        write_atomic(run.path / "config.resolved.json",
                     json.dumps(json.loads(unit.params), indent=1, sort_keys=True) + "\n")
        _end_torn_line(run.path / "events.jsonl")
        return run

    @property
    def finished(self) -> bool:
        return (self.path / "DONE").exists()

    @property
    def artifacts(self) -> Path:
        """Folder for trees, pairs, rollouts and pages; ``*.jsonl`` in it become tables in MLflow."""
        return self.path / "artifacts"

    def stage(self, name: str, compute: Callable[[], Any], *, load: Callable[[Any], Any] | None = None) -> Any:
        """The JSON value of a finished stage, else ``compute()``, saved first.

        The value passes through JSON both times (tuples come back as lists), so a resumed run sees
        exactly what a first run saw. ``load`` turns the value into what the caller wants (for example
        reads the weights in ``stage_path(name)``) and is applied both times too.

        A stage whose files are no longer those that were saved is named in a warning and computed again; of a finished
        unit, whose rows came from them, it is a StoreError.
        """
        file = self._stage_file(name)
        if not self.has_stage(name):
            if damage := self._damage(name):
                if not self._open:
                    raise StoreError(f"{damage} but {self.unit.name} is not open for computing; to compute that stage again, "
                                     f"delete {self.path / 'DONE'} and run the unit")
                print(f"warning: {damage}; stage {name} is computed again", file=sys.stderr, flush=True)
                with storage(file):
                    file.unlink()
            self._require_open(f"compute stage {name}")
            value = compute()
            write_atomic(file, canonical(value, f"the result of stage {name}") + "\n")
            processor.keep(self.path)
        value = json.loads(file.read_text(encoding="utf-8"))
        return load(value) if load else value

    def has_stage(self, name: str) -> bool:
        """True when the stage is finished and its files are those that were saved."""
        return self._stage_file(name).exists() and not self._damage(name)

    def _damage(self, name: str) -> str:
        """Which file of a finished stage is not what was saved, and how; "" for none, and for a stage that is not finished.

        Weights are hashed once for each opening of the unit."""
        file, folder = self._stage_file(name), self.stage_path(name)
        if not file.exists() or name in self._whole:
            return ""
        try:
            json.loads(file.read_text(encoding="utf-8"))
            saved = json.loads(self._files_of(name).read_text(encoding="utf-8"))
        except FileNotFoundError:  # a stage without a folder, or from before they were recorded
            saved = {}
        except (OSError, ValueError) as error:
            return f"{file} is damaged ({error})"
        for inner, (size, digest) in saved.items():
            path = folder / inner
            if not path.is_file():
                return f"{path} is missing"
            if path.stat().st_size != size:
                return f"{path} is damaged ({path.stat().st_size} bytes instead of {size})"
            if _sha256(path) != digest:
                return f"{path} is damaged (its SHA-256 is not the one that was saved)"
        self._whole.add(name)
        return ""

    @contextmanager
    def stage_dir(self, name: str) -> Iterator[Path]:
        """Inside ``compute``: an empty folder that becomes ``stage_path(name)`` when the block ends."""
        if self.has_stage(name):
            raise StoreError(f"stage {name} is finished and never written again; delete {self._stage_file(name)} first")
        self._require_open(f"write stage {name}")
        with folder_atomic(self.stage_path(name)) as folder:
            yield folder
            files = {path.relative_to(folder).as_posix(): (path.stat().st_size, _sha256(path))
                     for path in sorted(folder.rglob("*")) if path.is_file()}
        write_atomic(self._files_of(name), canonical(files, "files") + "\n")

    def stage_path(self, name: str) -> Path:
        """Where the stage's folder is once it is finished."""
        return self._stage_file(name).with_suffix("")

    def _files_of(self, name: str) -> Path:
        """Where the sizes and hashes of the files in the stage's folder are. The name begins with a point, as no stage's does."""
        return self._stage_file(name).with_name(f".{name}.files")

    def _stage_file(self, name: str) -> Path:
        if not _STAGE_NAME.fullmatch(name) or name.endswith(".json"):
            raise StoreError(f'the stage name "{name}" must be 1 to 120 letters, digits or _.,=+@- and start with a '
                             "letter or digit; rename the stage")
        return self.path / "stages" / f"{name}.json"

    def log(self, variant: str, step: int, metrics: Mapping[str, float]) -> None:
        """Append one event, visible at once to who tails the file. StoreError for NaN or infinity."""
        self._require_open("log")
        values = {}
        for name, value in metrics.items():
            values[name] = float(value)
            if not math.isfinite(values[name]):
                raise StoreError(f"metric {name} of variant {variant} is {value} at step {step} but must be finite; "
                                 "lower the learning rate, or leave out a metric that is undefined")
        event = {"t": round(time.time(), 3), "variant": variant, "step": int(step), "metrics": values}
        line = canonical(event, "event")
        path = self.path / "events.jsonl"
        with storage(path), open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def write_rows(self, rows: Iterable[MetricRow]) -> None:
        """Write the unit's metric rows; each must carry the unit's paper, env, seed and profile."""
        self._require_open("write rows")
        rows = list(rows)
        if not rows:
            raise ConfigError(f"{self.unit.name} has no metric rows; evaluate at least one variant")
        for row in rows:
            for field in ("paper", "env", "seed", "profile"):
                if getattr(row, field) != getattr(self.unit, field):
                    raise ConfigError(f"metric row {row.variant}/{row.metric}: {field} is {getattr(row, field)!r} but "
                                      f"this unit's is {getattr(self.unit, field)!r}; take it from the unit")
        write_metrics(self.path / "rows.jsonl", rows)

    def rows(self) -> list[MetricRow]:
        """The rows of a finished unit. StoreError when they are not the bytes that were finished."""
        return finished_rows(self.path)

    def finish(self) -> None:
        """Mark the unit finished and release it. StoreError before :meth:`write_rows`."""
        self._require_open("finish")
        if not (self.path / "rows.jsonl").exists():
            raise StoreError(f"{self.unit.name} has no metric rows; call write_rows before finish")
        processor.keep(self.path)
        write_atomic(self.path / "DONE", canonical({"rows": _sha256(self.path / "rows.jsonl")}, "DONE") + "\n")
        self.close()

    def close(self) -> None:
        """Release the lock; the folder stays as it is."""
        _unlock(self.path / "lock")

    @property
    def _open(self) -> bool:
        return _holds(self.path / "lock")

    def _require_open(self, action: str) -> None:
        if not self._open:
            state = (f"finished; delete {self.path} to compute it again" if self.finished
                     else "closed; open it with Run.open")
            raise StoreError(f"cannot {action}: {self.unit.name} is {state}")


@dataclass(frozen=True)
class Unit:
    """An open unit: ``params`` is an instance of the paper's ``Params``, ``run`` its locked run folder.

    ``base`` is the folder of the base model, None when the profile names a pretrained one or the environment has none.
    """

    root: Path
    paper: str
    env: str
    seed: int
    profile: str
    params: Any
    run: Run
    base: Path | None

    @property
    def data(self) -> Path:
        """Folder of the task panels, for ``load_panel(unit.data, "shop-v1/test")``."""
        return self.root / "data"


def finished_rows(path: Path) -> list[MetricRow]:
    """The metric rows of a finished run folder. StoreError when it is unfinished or was damaged since."""
    try:
        expected = json.loads((path / "DONE").read_text(encoding="utf-8"))["rows"]
        if _sha256(path / "rows.jsonl") == expected:
            return read_metrics(path / "rows.jsonl")
        problem = "rows.jsonl is not what was finished"
    except FileNotFoundError as error:
        problem = f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, TypeError, KeyError) as error:
        problem = f"DONE cannot be read ({error})"
    raise StoreError(f"{path}: {problem}; delete {path / 'DONE'} and run the unit again")


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _end_torn_line(path: Path) -> None:
    """A kill may leave half a line; ending it keeps the next event readable."""
    if path.exists() and path.stat().st_size and not path.read_bytes().endswith(b"\n"):
        with storage(path), open(path, "a", encoding="utf-8") as file:
            file.write("\n")


# A POSIX record lock: the kernel drops it when the process ends in any way, forked children do not inherit
# it, and it is lost if this process closes any handle of the file, hence one handle per path, kept here.
_HELD: dict[Path, tuple[int, int]] = {}


def _holds(path: Path) -> bool:
    return _HELD.get(path.resolve(), (0, 0))[0] == os.getpid()


def _lock(path: Path, name: str) -> None:
    if _holds(path):
        return
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.read(handle, 20).decode(errors="replace").strip() or "unknown"
        os.close(handle)
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise StoreError(f"{name} is being executed by process {owner}; "
                             "wait for it or end it, then run again") from None
        raise
    os.ftruncate(handle, 0)
    os.write(handle, f"{os.getpid()}\n".encode())
    _HELD[path.resolve()] = (os.getpid(), handle)


def _unlock(path: Path) -> None:
    if _holds(path):
        os.close(_HELD.pop(path.resolve())[1])
