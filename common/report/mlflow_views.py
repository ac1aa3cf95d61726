"""The first view of a paper in MLflow: its variants in the order of the paper's metric, each the mean over seeds.

MLflow keeps a view (filter, columns, order, groups) as a tag of the experiment, names it under *Views* and opens it by its key in the
address. A view is made for every environment in which the metric of most claims was measured. Runs of one variant are one line, told
apart by the parameters in which they differ.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.config import ConfigError
from common.config.index import INDEX, entries
from common.evaluate.claims import Claim, headline_metric, load_claims
from common.track.mlflow_store import local_database, local_uri, metric_key, store_errors

TAG = "mlflow.sharedViewState."
NAME = "attributes.`Run Name`"
MOST_PARAMETERS = 4
"""So many parameters tell groups of runs apart; of more, the first."""


@dataclass(frozen=True)
class View:
    """A page of runs: ``query`` is the end of its address, ``about`` says what it shows ("" for the plain table of runs)."""

    experiment: str
    paper: str
    query: str
    about: str = ""


def write_views(root: Path) -> list[View]:
    """Write the views of every paper in the default store, and what each experiment is about; returns the pages to open."""
    if not local_database(root).is_file():
        return []
    from mlflow.tracking import MlflowClient

    client = MlflowClient(local_uri(root))
    try:
        found = sorted((one for one in client.search_experiments() if one.name != "Default"), key=lambda one: one.name)
        return [view for one in found for view in _of_paper(client, root, one)]
    except store_errors():  # the server will say what is wrong
        return []


def _of_paper(client: Any, root: Path, experiment: Any) -> list[View]:
    """The views of one experiment, whose name is that of the paper; the plain table where the paper's claims were not measured."""
    paper, number = experiment.name, experiment.experiment_id
    _describe(client, root, experiment)
    runs = client.search_runs([number], "tags.`lab.kind` = 'variant' and attributes.status = 'FINISHED'", max_results=1000)
    views = []
    for env, claim in _claims(root / "papers" / paper / "claims.yaml").items():
        metric = metric_key(f"{claim.metric}/{claim.panel}")
        here = [run for run in runs if run.data.params.get("env") == env]
        if any(metric in run.data.metrics for run in here):
            about = f"{claim.metric} on {claim.panel}, {'lowest' if claim.direction == 'lower' else 'highest'} first"
            now = max(run.info.start_time for run in here)
            content = {"name": f"Variants by {about}", "createdAt": now, "updatedAt": now, "state": packed(state(claim, here))}
            client.set_experiment_tag(number, f"{TAG}lab-{env}", json.dumps(content))
            views.append(View(number, paper, f"&viewStateShareKey=lab-{env}", about))
    return views or [View(number, paper, "")]


def _claims(path: Path) -> dict[str, Claim]:
    """Environment → the first claim there on the metric of most claims; none where the file is absent or damaged."""
    found: dict[str, Claim] = {}
    try:
        headline, claims = headline_metric(path), load_claims(path).claims
    except ConfigError:
        return found
    for claim in claims:
        if claim.metric == headline:
            found.setdefault(claim.env, claim)
    return found


def state(claim: Claim, runs: Sequence[Any]) -> dict[str, Any]:
    """MLflow's description of the table that shows ``runs`` of variants by the metric of ``claim``: groups closed, the best one first."""
    metric = f"metrics.`{metric_key(f'{claim.metric}/{claim.panel}')}`"
    differing = differing_parameters([run.data.params for run in runs])
    keys = [("tag", "lab.variant"), *(("param", name) for name in differing)]
    groups = {",".join(f"{mode}.{name}.{(run.data.tags if mode == 'tag' else run.data.params).get(name) or 'null'}" for mode, name in keys) for run in runs}
    columns = [metric, *(f"metrics.`cost/{axis}`" for axis in dict.fromkeys((claim.matched_on, "updates")) if axis != "none")]
    return {"searchFilter": f"tags.lab.kind = 'variant' and params.env = '{claim.env}'", "orderByKey": metric, "orderByAsc": claim.direction == "lower",
            "selectedColumns": columns, "columnOrder": [NAME, *columns], "columnWidths": {NAME: 280 + 140 * len(differing)} | dict.fromkeys(columns, 150) | {metric: 320},
            "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": mode, "groupByData": name} for mode, name in keys]},
            "groupsExpanded": dict.fromkeys(sorted(groups), False), "startTime": "ALL", "lifecycleFilter": "Active", "datasetsFilter": [],
            "modelVersionFilter": "All Runs", "useGroupedValuesInCharts": True, "hideEmptyCharts": True}  # fmt: skip


def differing_parameters(params: Sequence[Mapping[str, str]]) -> list[str]:
    """Names of the parameters, other than the seed, that tell runs apart which those before them do not: one that follows from the
    profile is none."""
    chosen: list[str] = []
    for name in dict.fromkeys(name for one in params for name in one if name != "seed"):
        if len(chosen) < MOST_PARAMETERS and _groups(params, [*chosen, name]) > _groups(params, chosen):
            chosen.append(name)
    return chosen


def _groups(params: Sequence[Mapping[str, str]], names: Sequence[str]) -> int:
    return len({tuple(one.get(name) for name in names) for one in params})


def packed(content: Mapping[str, Any]) -> str:
    """``content`` as MLflow keeps the state of a view."""
    return "deflate;" + base64.b64encode(zlib.compress(json.dumps(content).encode())).decode()


def _describe(client: Any, root: Path, experiment: Any) -> None:
    """Title and address of the paper, its family, and that its runs are trainings; what stands there already is left."""
    entry = entries(root).get(experiment.name) if (root / INDEX).exists() else None
    told = {"mlflow.experimentKind": "custom_model_development"}
    if entry:
        told |= {"family": entry.family, "mlflow.note.content": f"[{entry.title}]({entry.url})"}
    for name, value in told.items():
        if name not in experiment.tags:
            client.set_experiment_tag(experiment.experiment_id, name, value)
