"""The MLflow store itself: where it is, how it fails, and what it does not accept.

MLflow is imported inside the functions, because that takes seconds.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from common.track.files import StoreError, storage

T = TypeVar("T")

TABLE_ROWS = 500
"""At most so many records of an ``artifacts/*.jsonl`` are shown as an MLflow table; the file is attached whole."""


def local_uri(root: Path) -> str:
    """The default store: one absolute sqlite file, the same from every working directory."""
    return f"sqlite:///{root.resolve()}/mlruns/mlflow.db"


def metric_key(name: str) -> str:
    """``name`` with what MLflow does not allow in a metric's name replaced: ``pass@1`` becomes ``pass_at_1``."""
    return re.sub(r"[^\w\-. /]", "_", name.replace("@", "_at_"))


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
    """One process at a time inside the block when the store is a file. StoreError when mlruns/ is not writable."""
    if not uri.startswith("sqlite:"):
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
    for name in ("mlflow.store.db.utils", "alembic", "alembic.runtime.migration"):
        logging.getLogger(name).setLevel(logging.WARNING)


def failures() -> tuple[type[Exception], ...]:
    """What a store may raise when it fails; the errors of requests are OSErrors."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return (MlflowException, SQLAlchemyError, OSError, StoreError)


def patiently(action: Callable[[], T], attempts: int = 6) -> T:
    """Another process writing to the sqlite file is not a failure: try again for some seconds."""
    for attempt in range(attempts - 1):
        try:
            return action()
        except failures() as error:
            if "database is locked" not in str(error):
                raise
            time.sleep(0.25 * 2**attempt)
    return action()


def short(error: Exception) -> str:
    """One line of at most 160 characters."""
    text = " ".join(str(error).split())
    return text if len(text) <= 160 else text[:157] + "..."


def table(file: Path) -> Any:
    """The first TABLE_ROWS records as a data frame; nested values as JSON text, which the table view can show."""
    import pandas

    records = []
    with open(file, encoding="utf-8") as lines:
        for _, line in zip(range(TABLE_ROWS), lines):
            records.append({name: json.dumps(value) if isinstance(value, (dict, list)) else value
                            for name, value in json.loads(line).items()})
    return pandas.DataFrame(records)
