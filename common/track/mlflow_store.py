"""The MLflow store itself: where it is, how it fails, and what it does not accept.

MLflow is imported inside the functions, because that takes seconds.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from common.config.strict import load_yaml
from common.files import StoreError, storage

T = TypeVar("T")

TABLE_ROWS = 500
"""At most so many records of an ``artifacts/*.jsonl`` are shown as an MLflow table; the file is attached whole."""

KEY_LENGTH = 250
"""Most characters of a metric's name in MLflow."""

OTHERS = ("database is locked", "UNIQUE constraint failed", "duplicate key value")
"""What a store says when another process wrote at the same time: sqlite's file is taken, or both made the same entry,
such as that of a data panel, which the next attempt finds made."""


def local_uri(root: Path) -> str:
    """The default store: one absolute sqlite file, the same from every working directory."""
    return sqlite_uri(local_database(root))


def local_database(root: Path) -> Path:
    """The file of the default store."""
    return root.resolve() / "mlruns" / "mlflow.db"


def sqlite_uri(path: Path) -> str:
    """The database in an absolute file as SQLAlchemy's URL, in which ``?`` and ``%`` mean something else than in a path.

    MLflow makes the folder that it reads off a ``sqlite:///`` without decoding it, so an encoded one names the driver too.
    """
    if not set("?%") & set(str(path)):
        return f"sqlite:///{path}"
    from sqlalchemy.engine import URL

    return URL.create("sqlite+pysqlite", database=str(path)).render_as_string()


def is_database(uri: str) -> bool:
    """Whether MLflow's client writes to the database itself, rather than to a server that does."""
    return uri.partition(":")[0].partition("+")[0] in ("sqlite", "postgresql", "mysql", "mssql")


def metric_key(name: str) -> str:
    """``name`` with what MLflow does not allow in a metric's name replaced: ``pass@1`` becomes ``pass_at_1``.

    A name is also a path below MLflow's folder of metrics, so each of its parts needs a letter; and it has at most
    KEY_LENGTH characters, the last ones of a longer name being those of its hash. Two names can have one key."""
    parts = re.sub(r"[^\w\-. /]", "_", name.replace("@", "_at_")).split("/")
    key = "/".join(part if part.strip(".") else part.replace(".", "_") or "_" for part in parts)
    return key if len(key) <= KEY_LENGTH else hashed_key(key, name)


def hashed_key(key: str, name: str) -> str:
    """``key`` with the hash of ``name`` at its end, to tell names apart that have the same one."""
    return f"{key[: KEY_LENGTH - 9]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def is_refusal(error: Exception) -> bool:
    """Whether the store lives and only does not take what it was given, such as a name that is too long."""
    return getattr(error, "error_code", "") == "INVALID_PARAMETER_VALUE"


def inputs(root: Path, data: Mapping[str, str]) -> list[Any]:
    """The panels of a unit (environment → hash) as MLflow's dataset inputs: where they lie, and no copy of them.

    The digest is the first 36 characters (MLflow's limit) of the hash in the unit's key; the source names the folder
    and, where ``data.dvc`` tracks it, DVC's hash of all data; the profile counts the rows of each panel.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    tracked = load_yaml(root / "data.dvc", "data.dvc") if (root / "data.dvc").exists() else {}
    dvc = {"dvc": out["md5"] for out in tracked.get("outs", ())}
    datasets = []
    for env, digest in sorted(data.items()):
        manifest = root / "data" / env / "manifest.json"
        files = json.loads(manifest.read_text(encoding="utf-8"))["files"] if manifest.exists() else {}
        rows = {name.removesuffix(".jsonl"): entry["rows"] for name, entry in files.items()}
        source = {"uri": f"data/{env}", **dvc, "sha256": digest}
        dataset = Dataset(name=env, digest=digest[:36], source_type="dvc" if dvc else "local",
                          source=json.dumps(source), profile=json.dumps(rows))
        datasets.append(DatasetInput(dataset, [InputTag("mlflow.data.context", "panels")]))
    return datasets


def running_runs(client: Any) -> list[Any]:
    """All RUNNING runs of all experiments, page by page."""
    from mlflow.entities import ViewType

    experiments, token = [], None
    while True:
        page = client.search_experiments(view_type=ViewType.ALL, max_results=1000, page_token=token)
        experiments += [experiment.experiment_id for experiment in page]
        token = page.token
        if not token:
            break
    runs: list[Any] = []
    while experiments:
        page = client.search_runs(experiments, "attributes.status = 'RUNNING'", max_results=1000, page_token=token)
        runs += page
        token = page.token
        if not token:
            break
    return runs


@contextmanager
def start_up_lock(root: Path, uri: str) -> Iterator[None]:
    """One process of this project at a time inside the block when the store is a database, whose tables the first to
    come makes. StoreError when mlruns/ is not writable."""
    if not is_database(uri):
        yield
        return
    with storage(root / "mlruns"):
        (root / "mlruns").mkdir(parents=True, exist_ok=True)
        file = open(root / "mlruns" / "start.lock", "w", encoding="utf-8")
    with file:  # closing it releases the lock
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def quiet_environment() -> None:
    """No usage reports, no lines about the schema. Call it before MLflow is imported."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # a laboratory reports to nobody
    for name in ("mlflow.store.db.utils", "alembic", "alembic.runtime.migration", "mlflow.system_metrics"):
        logging.getLogger(name).setLevel(logging.WARNING)


def store_errors() -> tuple[type[Exception], ...]:
    """What a store may raise when it fails; errors of requests are OSErrors, the want of a driver an ImportError."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return (MlflowException, SQLAlchemyError, OSError, ImportError, StoreError)


def with_retries(action: Callable[[], T], attempts: int = 6) -> T:
    """Another process writing to the same store is not a failure: try again for some seconds."""
    for attempt in range(attempts - 1):
        try:
            return action()
        except store_errors() as error:
            if not any(sign in str(error) for sign in OTHERS):
                raise
            time.sleep(0.25 * 2**attempt)
    return action()


def one_line_error(error: Exception) -> str:
    """One line of at most 160 characters."""
    text = " ".join(str(error).split())
    return text if len(text) <= 160 else text[:157] + "..."


def artifact_table(file: Path) -> Any:
    """The first TABLE_ROWS records as a data frame; nested values as JSON text, which the table view can show."""
    import pandas

    records = []
    with open(file, encoding="utf-8") as lines:
        for _, line in zip(range(TABLE_ROWS), lines):
            records.append({name: json.dumps(value) if isinstance(value, (dict, list)) else value
                            for name, value in json.loads(line).items()})
    return pandas.DataFrame(records)
