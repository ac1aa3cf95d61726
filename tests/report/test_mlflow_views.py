"""The first view of MLflow: which runs, columns and groups it shows, in which order, and that what a user wrote stays."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace

import pytest

from common.report import mlflow_views
from common.report.mlflow_views import View, differing_parameters, write_views
from common.track.mlflow_log import Tracker
from common.track.store import Run
from tests.track.test_mlflow_log import SOURCE, client, environment, root, template  # noqa: F401
from tests.track.units import UNIT, row

CLAIMS = """
paper: ladder
family: multi_agent
source: hand-made
defaults: {metric: success, panels: [shop-v1/test], matched_on: env_steps, direction: higher, why: equal by construction}
claims:
  - {id: D1, statement: dpo beats base, better: dpo, worse: base}
  - {id: D2, statement: dpo beats base elsewhere, better: dpo, worse: base, panels: [countdown-v1/test]}
"""
INDEX = "id,title,arxiv,url,year,family,status,note\nladder,On Ladders,1,https://a.b/1,2025,multi_agent,planned,\n"


def track(root, *units):
    with Tracker(root) as tracker:
        for unit in units:
            tracked, run = tracker.unit_run(tracker.sweep_run(unit.paper, SOURCE, {}), unit), Run.open(root, unit)
            run.write_rows([row(seed=unit.seed), row(seed=unit.seed, variant="base")])
            run.finish()
            tracker.finish(tracked, run.path)
        return tracked.experiment_id


@pytest.fixture
def lab(root):  # noqa: F811
    (root / "papers" / "ladder").mkdir(parents=True)
    (root / "papers" / "ladder" / "claims.yaml").write_text(CLAIMS)
    (root / "papers" / "index.csv").write_text(INDEX)
    return root


def view_of(lab, number, key="lab-shop-v1"):
    content = json.loads(client(lab).get_experiment(number).tags[mlflow_views.TAG + key])
    return content["name"], json.loads(zlib.decompress(base64.b64decode(content["state"].removeprefix("deflate;"))))


@pytest.mark.parametrize("direction, first", [("higher", "highest"), ("lower", "lowest")])
def test_variants_are_groups_in_the_order_of_the_metric_of_most_claims(lab, direction, first):
    path = lab / "papers" / "ladder" / "claims.yaml"
    path.write_text(path.read_text().replace("direction: higher", f"direction: {direction}"))
    number = track(lab, UNIT, replace(UNIT, seed=4))
    about = f"success on shop-v1/test, {first} first"
    assert write_views(lab) == [View(number, "ladder", "&viewStateShareKey=lab-shop-v1", about)]  # countdown-v1 was not measured
    name, state = view_of(lab, number)
    metric = "metrics.`success/shop-v1/test`"
    assert name == f"Variants by {about}" and (state["orderByKey"], state["orderByAsc"]) == (metric, direction == "lower")
    assert state["selectedColumns"] == [metric, "metrics.`cost/env_steps`", "metrics.`cost/updates`"]
    assert state["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": "lab.variant"}]
    assert state["groupsExpanded"] == {"tag.lab.variant.base": False, "tag.lab.variant.dpo": False}
    found = client(lab).search_runs([number], state["searchFilter"])
    assert sorted(run.info.run_name for run in found) == ["base", "base", "dpo", "dpo"]


def test_runs_of_other_settings_are_groups_of_their_own(lab):
    number = track(lab, UNIT, replace(UNIT, params='{"alpha":1.0,"search":{"depth":2}}'))
    write_views(lab)
    _, state = view_of(lab, number)
    assert [key["groupByData"] for key in state["groupBy"]["groupByKeys"]] == ["lab.variant", "alpha"]
    assert "tag.lab.variant.dpo,param.alpha.1.0" in state["groupsExpanded"] and len(state["groupsExpanded"]) == 4


def test_experiments_say_which_paper_they_are_unless_somebody_wrote_something_else(lab):
    number = track(lab, UNIT)
    client(lab).set_experiment_tag(number, "family", "mine")
    write_views(lab)
    tags = client(lab).get_experiment(number).tags
    assert tags["mlflow.note.content"] == "[On Ladders](https://a.b/1)" and tags["family"] == "mine"
    assert tags["mlflow.experimentKind"] == "custom_model_development"


def test_a_paper_without_claims_or_with_damaged_ones_has_the_plain_table(lab):
    number, path = track(lab, UNIT), lab / "papers" / "ladder" / "claims.yaml"
    path.write_text(CLAIMS.replace("better: dpo", "beter: dpo"))
    assert write_views(lab) == [View(number, "ladder", "")]
    path.unlink()
    assert write_views(lab) == [View(number, "ladder", "")]


def test_no_store_has_no_views(tmp_path):
    assert write_views(tmp_path) == [] and not list(tmp_path.iterdir())


def test_parameters_that_follow_from_others_tell_nothing_apart():
    params = [{"seed": str(seed), "profile": profile, "updates": updates, "lr": lr}
              for seed, profile, updates, lr in ((0, "smoke", "2", "1"), (1, "cpu", "9", "1"), (2, "cpu", "9", "3"))]  # fmt: skip
    assert differing_parameters(params) == ["profile", "lr"] and differing_parameters(params[:1]) == []
    many = [{f"p{i}": str(number == i) for i in range(9)} for number in range(9)]
    assert differing_parameters(many) == [f"p{i}" for i in range(mlflow_views.MOST_PARAMETERS)]
