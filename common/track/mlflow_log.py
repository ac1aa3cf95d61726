"""MLflow, owned by the parent process: one experiment per paper; sweep > unit > variant runs.

    with Tracker(root) as tracker:                   # warns in one sentence when the server is unreachable
        tracker.close_orphans()                      # runs whose owner process died
        sweep = tracker.sweep_run("agent_q", provenance(root), {"profile": "cpu"})
        run = tracker.unit_run(sweep, unit)          # RUNNING from here on
        tracker.forward(run, tail.read())            # as often as you like; an EventTail remembers its place
        tracker.finish(run, unit_path(root, unit))   # or tracker.fail(run, notebook, last_lines)
        tracker.show(tracker.reopen(unit.key), unit_path(root, unit), episodes=20)    # more traces, at any time
        tracker.finish_sweep(sweep, failed=0)

No method raises because of MLflow. An unreachable server is replaced by the local sqlite store at the
start; a store that fails later is left for the rest of the process, in one sentence; a value that a living store
refuses is left out, in one sentence. All that MLflow would show is in the run folders as well. Only client calls are used, never MLflow's global active run, and MLflow
is imported by the first Tracker, because that takes seconds.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from common.track import traces
from common.track.mlflow_store import (
    store_errors, inputs, is_database, local_uri, metric_key, with_retries, quiet_environment, running_runs, one_line_error,
    start_up_lock, artifact_table, hashed_key, is_refusal,
)
from common.track.owner import alive, current_owner
from common.track.provenance import Provenance
from common.track.store import UnitSpec, finished_rows

T = TypeVar("T")

Drawn = Callable[[Path], Mapping[str, Mapping[str, str]]]
"""Run folder → artifact folder → file name → text: how a unit is drawn is no matter of tracking."""

OWNER = "lab.owner"
"""Tag of every run of ours: the process that answers for it, see ``common.track.owner``."""

EPISODES = 2
"""Episodes of every variant that become traces when a unit ends, on the same tasks for all; ``python -m common traces``
adds more. A turn costs half a millisecond."""

_BATCH = {"metrics": 1000, "params": 100, "tags": 100}
_CHECK_SECONDS = 4
_SHARED_TAGS = ("lab.paper", "lab.env", "lab.seed", "lab.profile", "lab.key")


@dataclass(frozen=True)
class Tracked:
    """A handle on an MLflow run; ``run_id`` is "" when tracking is off."""

    run_id: str
    experiment_id: str
    name: str


_OFF = Tracked(run_id="", experiment_id="", name="")


class Tracker:
    """See the module docstring. The store is ``uri``, else MLFLOW_TRACKING_URI, else a local sqlite file.

    ``uri`` (after construction): the store in use, "" when tracking is off. ``warnings``: the sentences
    printed so far, for a final table. ``drawn`` makes the pages and pictures of a finished unit. Make it in the parent, after which do not fork: start workers by spawn.
    """

    def __init__(self, root: Path, uri: str | None = None, *, drawn: Drawn = lambda path: {}) -> None:
        self._drawn = drawn
        self.warnings: list[str] = []
        self._root = root.resolve()
        self._owner = json.dumps(current_owner(), sort_keys=True)
        self._variants: dict[tuple[str, str], str] = {}
        self._open: dict[str, None] = {}  # run ids, outer before inner
        self._source: dict[str, dict[str, str]] = {}  # by paper
        self._unit_tags: dict[str, dict[str, str]] = {}  # by run id, for the variants
        self._unit_params: dict[str, dict[str, Any]] = {}  # so
        self._monitors: dict[str, Any] = {}  # by run id
        self._names: dict[str, str] = {}  # the metric behind each key
        self.uri = ""
        self._client: Any = None
        local = local_uri(self._root)
        wanted = uri or os.environ.get("MLFLOW_TRACKING_URI") or local
        if self._connect(wanted, f"MLflow at {wanted} does not answer; going on with the local store {local}"
                         if wanted != local else ""):
            return
        self._connect(local, "MLflow tracking is off; metrics stay in runs/<paper>/<key>/events.jsonl")

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _connect(self, uri: str, otherwise: str) -> bool:
        quiet_environment()
        from mlflow.tracking import MlflowClient

        limits = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(_CHECK_SECONDS)}
        before = {name: os.environ.get(name) for name in limits}
        os.environ.update(limits)
        try:
            with start_up_lock(self._root, uri):  # parallel first starts would race in the schema migration
                client = MlflowClient(uri)
                client.search_experiments(max_results=1)
        except store_errors() as error:
            if otherwise:
                self._warn(f"{otherwise} (reason: {one_line_error(error)})")
            return False
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        # A server that dies in mid-sweep must cost seconds, not MLflow's default minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        self.uri, self._client = uri, client
        return True

    def _warn(self, sentence: str) -> None:
        self.warnings.append(sentence)
        print(f"warning: {sentence}", file=sys.stderr, flush=True)

    def _warn_once(self, sentence: str) -> None:
        if sentence not in self.warnings:
            self._warn(sentence)

    def _key(self, name: str) -> str:
        """The key of a metric, another one for each name."""
        key = metric_key(name)
        if self._names.setdefault(key, name) != name:
            other, key = self._names[key], hashed_key(key, name)
            self._warn_once(f"the metrics {other!r} and {name!r} would have the same name in MLflow, where the second is {key!r}")
        return key

    def _do(self, action: Callable[[Any], T], otherwise: T, *, quiet: bool = False) -> T:
        """``action`` on the client; the first failure switches tracking off for good. A value that the store refuses is no
        failure: a warning says so, unless ``quiet``."""
        if self._client is None:
            return otherwise
        try:
            return with_retries(lambda: action(self._client))
        except store_errors() as error:
            if is_refusal(error):
                if not quiet:
                    self._warn_once(f"MLflow refused a value, which stays in the run folder (reason: {one_line_error(error)})")
                return otherwise
            self._warn(f"MLflow at {self.uri} failed and is off from now on; metrics stay in "
                       f"runs/<paper>/<key>/events.jsonl and the next sweep closes its runs (reason: {one_line_error(error)})")
            self.uri, self._client = "", None
            return otherwise

    def _attach(self, what: str, action: Callable[[Any], object]) -> None:
        """Artifacts are extras: when one cannot be stored, say so and go on tracking."""
        if self._client is None:
            return
        try:
            with_retries(lambda: action(self._client))
        except (*store_errors(), ValueError, NotImplementedError) as error:  # the last: a server that is too old for traces
            self._warn(f"MLflow did not take {what}; it stays in the run folder (reason: {one_line_error(error)})")

    # -- starting runs ---------------------------------------------------------------------------

    def sweep_run(self, paper: str, source: Provenance, tags: Mapping[str, str]) -> Tracked:
        """Open the parent run of one sweep over one paper; its units and variants inherit the source tags."""
        self._source[paper] = {
            "mlflow.source.type": "LOCAL",
            "mlflow.source.name": f"papers/{paper}",
            "mlflow.source.git.commit": source.commit or "none",
            "lab.dirty": str(source.dirty).lower(),
            "lab.lock": source.lock,
            "lab.dvc_stage": os.environ.get("DVC_STAGE", "none"),
            **{f"lab.version.{name}": version for name, version in source.versions.items()},
            **{f"lab.hardware.{name}": value for name, value in source.hardware.items()},
        }
        experiment = self._do(lambda client: self._experiment(client, paper), "")
        name = f"sweep {time.strftime('%Y-%m-%d %H:%M:%S')}"
        run = self._create(experiment, name, "sweep", "", {**self._source[paper], "lab.paper": paper, **tags})
        if source.diff and run.run_id:
            self._attach("the source diff", lambda client: client.log_text(run.run_id, source.diff, "source.diff"))
        return run

    def unit_run(self, sweep: Tracked, unit: UnitSpec) -> Tracked:
        """Open the run of one unit inside a sweep, with its resolved parameters, hashes and key."""
        data = " ".join(f"{name}={digest}" for name, digest in sorted(unit.data.items()))
        tags = {"lab.paper": unit.paper, "lab.env": unit.env, "lab.seed": str(unit.seed), "lab.profile": unit.profile,
                "lab.key": unit.key, "lab.code": unit.code, "lab.data": data, "lab.base": unit.base or "none",
                "lab.folder": f"runs/{unit.paper}/{unit.key}", **self._source.get(unit.paper, {}),
                "lab.lock": unit.lock}
        name = f"{unit.env} seed {unit.seed} {unit.profile}"
        run = self._create(sweep.experiment_id, name, "unit", sweep.run_id, tags)
        if run.run_id:
            self._unit_tags[run.run_id] = {name: tags[name] for name in _SHARED_TAGS}
            params = {"env": unit.env, "seed": unit.seed, "profile": unit.profile, **_flatten(json.loads(unit.params))}
            self._unit_params[run.run_id] = params
            self._batch(run.run_id, params=params)
            self._attach("the resolved parameters", lambda client: client.log_dict(
                run.run_id, json.loads(unit.params), "config.resolved.json"))
            self._attach("the data panels", lambda client: client.log_inputs(
                run.run_id, inputs(self._root, unit.data)))
            self._monitor(run.run_id)
        return run

    def _monitor(self, run_id: str) -> None:
        """Processor, memory, disk, network and GPU of the machine every ten seconds, as long as the run is open. Units
        that run side by side share the machine and its numbers."""
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        self._monitors[run_id] = SystemMetricsMonitor(run_id, tracking_uri=self.uri)
        self._monitors[run_id].start()

    def reopen(self, key: str) -> Tracked:
        """The latest finished run of the unit with this key, and its variants; without an id when there is none."""
        from mlflow.entities import ViewType

        def search(client: Any, query: str, experiments: list[str]) -> list[Any]:
            return list(client.search_runs(experiments, query, ViewType.ACTIVE_ONLY, max_results=1000))

        experiments = self._do(lambda client: [one.experiment_id for one in client.search_experiments()], [])
        query = f"tags.`lab.key` = '{key}' and tags.`lab.kind` = 'unit' and attributes.status = 'FINISHED'"
        runs = self._do(lambda client: search(client, query, experiments), [])
        if not runs:
            return _OFF
        info = runs[0].info
        inner = f"tags.`mlflow.parentRunId` = '{info.run_id}'"
        for child in self._do(lambda client: search(client, inner, [info.experiment_id]), []):
            self._variants[info.run_id, child.data.tags["lab.variant"]] = child.info.run_id
        self._unit_tags[info.run_id] = {name: runs[0].data.tags[name] for name in _SHARED_TAGS}
        self._unit_params[info.run_id] = dict(runs[0].data.params)
        return Tracked(run_id=info.run_id, experiment_id=info.experiment_id, name=info.run_name)

    def _experiment(self, client: Any, paper: str) -> str:
        with start_up_lock(self._root, self.uri):
            found = client.get_experiment_by_name(paper)
            if found is None:
                return client.create_experiment(paper, artifact_location=self._artifact_location())
            if found.lifecycle_stage == "deleted":
                client.restore_experiment(found.experiment_id)
            return found.experiment_id

    def _artifact_location(self) -> str | None:
        """In this project, for a database holds no files; a server knows its own place."""
        return (self._root / "mlruns" / "artifacts").as_uri() if is_database(self.uri) else None

    def _create(self, experiment: str, name: str, kind: str, parent: str, tags: Mapping[str, str]) -> Tracked:
        if not experiment:
            return _OFF
        tags = {**tags, OWNER: self._owner, "lab.kind": kind} | ({"mlflow.parentRunId": parent} if parent else {})
        tags = {key: str(value)[:5000] for key, value in tags.items()}
        run = self._do(lambda client: client.create_run(experiment, tags=tags, run_name=name), None)
        if run is None:
            return _OFF
        self._open[run.info.run_id] = None
        return Tracked(run_id=run.info.run_id, experiment_id=experiment, name=name)

    # -- during a run ----------------------------------------------------------------------------

    def forward(self, run: Tracked, events: Iterable[Mapping[str, Any]]) -> None:
        """Send events of ``events.jsonl`` to the unit's variant runs, which open at their first event."""
        from mlflow.entities import Metric

        by_variant: dict[str, list[Metric]] = {}
        for event in events:
            by_variant.setdefault(event["variant"], []).extend(
                Metric(self._key(name), float(value), int(event["t"] * 1000), int(event["step"]))
                for name, value in event["metrics"].items())
        for variant, metrics in by_variant.items():
            self._batch(self._variant(run, variant), metrics=metrics)

    def variant_run(self, run: Tracked, variant: str) -> str:
        """The id of a variant's run in a unit's; "" when there is none."""
        return self._variants.get((run.run_id, variant), "")

    def _variant(self, run: Tracked, variant: str) -> str:
        """The id of the variant's run, opened when needed. It has the unit's parameters too, so that MLflow's table shows
        them beside the metrics, to sort and to filter."""
        if (run.run_id, variant) not in self._variants and run.run_id:
            tags = {"lab.variant": variant, **self._unit_tags.get(run.run_id, {})}
            child = self._create(run.experiment_id, variant, "variant", run.run_id, tags)
            self._batch(child.run_id, params=self._unit_params.get(run.run_id))
            self._variants[run.run_id, variant] = child.run_id
        return self.variant_run(run, variant)

    def _batch(self, run_id: str, *, metrics: list[Any] = (), params: Mapping[str, Any] | None = None,
               tags: Mapping[str, str] | None = None) -> None:
        from mlflow.entities import Param, RunTag

        if not run_id:
            return
        content = {"metrics": list(metrics), "params": [Param(name, str(value)[:5000]) for name, value in
                                                        (params or {}).items()],
                   "tags": [RunTag(name, str(value)[:5000]) for name, value in (tags or {}).items()]}
        for kind, items in content.items():
            for start in range(0, len(items), _BATCH[kind]):
                self._send(run_id, kind, items[start:start + _BATCH[kind]])

    def _send(self, run_id: str, kind: str, items: list[Any]) -> None:
        """Halved until only the items are left out that the store refuses: it takes a batch as a whole or not at all."""
        def log(client: Any) -> bool:
            client.log_batch(run_id, **{kind: items})
            return True

        if not self._do(log, False, quiet=len(items) > 1) and self._client is not None and len(items) > 1:
            middle = len(items) // 2
            self._send(run_id, kind, items[:middle])
            self._send(run_id, kind, items[middle:])

    # -- ending runs -----------------------------------------------------------------------------

    def finish(self, run: Tracked, path: Path) -> None:
        """End a unit's run and its variants as FINISHED, with the rows, notebook and artifacts in ``path``.

        Each row becomes the metric ``<metric>/<panel>`` of its variant's run, each budget counter
        ``cost/<name>``. Raises StoreError when the folder's rows are damaged.
        """
        from mlflow.entities import Metric

        rows, now = finished_rows(path), int(time.time() * 1000)
        for variant in dict.fromkeys(row.variant for row in rows):
            mine = [row for row in rows if row.variant == variant]
            values = {f"{row.metric}/{row.panel}": row.value for row in mine}
            # The counters of a variant grow while it is evaluated: the largest is the whole.
            values |= {f"cost/{name}": max(row.cost[name] for row in mine) for name in mine[0].cost}
            self._batch(self._variant(run, variant),
                        metrics=[Metric(self._key(name), float(value), now, 0) for name, value in values.items()])
        if run.run_id:
            self._attach("the metric rows", lambda client: client.log_artifact(run.run_id, str(path / "rows.jsonl")))
            self._attach_folder(run, path)
            self.show(run, path)
        self._end(run, "FINISHED")

    def show(self, run: Tracked, path: Path, *, episodes: int = EPISODES) -> int:
        """Put what a finished unit kept where MLflow's pages show it; how many traces there are.

        The first ``episodes`` episodes or dialogues of every variant become traces of that variant's run (sent again,
        they stay one); what ``drawn`` makes of the run folder becomes files in folders of its names. Nothing is shown that
        the unit did not keep.
        """
        made = self._drawn(path)
        with tempfile.TemporaryDirectory() as folder:
            for kind, files in made.items():
                for name, text in files.items():
                    (Path(folder) / kind).mkdir(exist_ok=True)
                    (Path(folder) / kind / name).write_text(text, encoding="utf-8")
            if any(made.values()):
                self._attach("the pages", lambda client: client.log_artifacts(run.run_id, folder))
        at, tags, by_run = (path / "DONE").stat().st_mtime_ns, self._unit_tags.get(run.run_id, {}), {}
        for variant, tasks in traces.recorded_episodes(path / "artifacts").items():
            target = self._variant(run, variant)
            for task, turns in list(tasks.items())[:episodes] if target else ():
                name = traces.trace_id(target, variant, task)
                found = traces.spans(turns, trace=name, variant=variant, tags=tags, at_ns=at)
                by_run.setdefault(target, {})[name] = found
        if by_run:
            self._attach("the traces", lambda client: traces.send(client, run.experiment_id, by_run))
        return sum(map(len, by_run.values()))

    def _attach_folder(self, run: Tracked, path: Path) -> None:
        """The executed notebook, everything in ``artifacts/``, and its record files as tables."""
        if (path / "notebook.ipynb").exists():
            self._attach("the notebook", lambda client: client.log_artifact(run.run_id, str(path / "notebook.ipynb")))
        artifacts = path / "artifacts"
        if artifacts.is_dir() and any(artifacts.iterdir()):
            self._attach("the artifacts", lambda client: client.log_artifacts(run.run_id, str(artifacts), "artifacts"))
            self._tables(run, artifacts)

    def _tables(self, run: Tracked, artifacts: Path) -> None:
        """As ``client.log_table`` would, which asks the store several times for every table."""
        files = sorted(artifacts.glob("*.jsonl"))
        with tempfile.TemporaryDirectory() as folder:
            for file in files:
                artifact_table(file).to_json(Path(folder) / f"{file.stem}.json", orient="split", index=False)
            self._attach("the tables", lambda client: client.log_artifacts(run.run_id, folder, "tables"))
        shown = [{"path": f"tables/{file.stem}.json", "type": "table"} for file in files]
        self._batch(run.run_id, tags={"mlflow.loggedArtifacts": json.dumps(shown)} if files else {})

    def fail(self, run: Tracked, notebook: Path | None, tail: str) -> None:
        """End a unit's run and its variants as FAILED.

        ``notebook`` is the notebook as far as it was executed, if any; ``tail`` the last lines it printed.
        """
        if run.run_id:
            lines = tail.strip().splitlines() or ["no output"]
            self._batch(run.run_id, tags={"lab.failure": lines[-1]})
            text = "\n".join(lines) + "\n"
            self._attach("the last lines", lambda client: client.log_text(run.run_id, text, "failure.txt"))
            if notebook is not None and notebook.exists():
                self._attach("the failed notebook", lambda client: client.log_artifact(run.run_id, str(notebook)))
        self._end(run, "FAILED")

    def kill(self, run: Tracked) -> None:
        """End a unit's run and its variants as KILLED: its worker was stopped, a rerun resumes it."""
        self._end(run, "KILLED")

    def skip(self, sweep: Tracked, unit: UnitSpec) -> None:
        """Note on the sweep's run that a unit was finished before and taken from the run store."""
        self._batch(sweep.run_id, tags={f"lab.restored.{unit.key}": unit.name})

    def finish_sweep(self, sweep: Tracked, *, failed: int) -> None:
        """End the sweep's run, FAILED when units failed or were not reached, whose number is ``failed``."""
        self._batch(sweep.run_id, tags={"lab.failed_units": str(failed)})
        self._end(sweep, "FAILED" if failed else "FINISHED")

    def _end(self, run: Tracked, status: str) -> None:
        inner = [child for (parent, _), child in self._variants.items() if parent == run.run_id]
        for run_id in [*inner, run.run_id]:
            if run_id and self._open.pop(run_id, 0) is None:
                self._unwatch(run_id)
                self._do(lambda client, run_id=run_id: client.set_terminated(run_id, status), None)

    def _unwatch(self, run_id: str) -> None:
        monitor = self._monitors.pop(run_id, None)
        if monitor:
            monitor.finish()

    def close(self) -> None:
        """End as KILLED whatever this tracker opened and nobody ended: an interrupted sweep leaves nothing RUNNING."""
        for run_id in reversed(list(self._open)):
            self._unwatch(run_id)
            self._do(lambda client, run_id=run_id: client.set_terminated(run_id, "KILLED"), None)
        self._open.clear()

    def close_orphans(self) -> int:
        """End as KILLED all our RUNNING runs whose owner process is dead; how many there were.

        Runs of another machine on a shared server are left alone, and so are runs that are not ours.
        """
        orphans = self._do(lambda client: [run for run in running_runs(client) if self._is_orphan(run)], [])
        for run in orphans:
            self._batch(run.info.run_id, tags={"lab.failure": "its owner process ended without closing it"})
            self._do(lambda client, run=run: client.set_terminated(run.info.run_id, "KILLED"), None)
        return len(orphans)

    def _is_orphan(self, run: Any) -> bool:
        try:
            owner = json.loads(run.data.tags[OWNER])
        except (KeyError, ValueError):
            return False
        return not alive(owner, local=self.uri.startswith("sqlite"))


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat
