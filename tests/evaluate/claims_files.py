"""A small claims file and rows by hand, for the tests of reading, judging and admission."""

from __future__ import annotations

import yaml

from common.evaluate.claims import load_claims
from common.evaluate.verdicts import judge
from common.rows import COST_FIELDS, MetricRow

PANEL = "countdown-v1/test"


def claims_file(tmp_path, *claims, **changes):
    """A claims file of the paper "demo"; each claim is a dict over defaults that are valid."""
    entries = [{"id": f"D{i}", "statement": "a beats b", "better": "a", "worse": "b", **claim}
               for i, claim in enumerate(claims)]
    content = {
        "paper": "demo", "family": "world_models", "source": "hand-made",
        "defaults": {"metric": "success", "panels": [PANEL], "matched_on": "env_steps", "why": "equal"},
        "claims": entries, **changes,
    }  # fmt: skip
    path = tmp_path / "demo" / "claims.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump({name: value for name, value in content.items() if value is not None}))
    return path


def rows_of(variant, values, *, metric="success", panel=PANEL, profile="cpu", scale="nano", first_seed=0, **cost):
    cost = {name: cost.get(name, 100) for name in COST_FIELDS}
    env = panel.split("/")[0]
    return [MetricRow("demo", env, profile, scale, variant, first_seed + i, panel, metric, value, 50, cost)
            for i, value in enumerate(values)]


def judged(tmp_path, rows, *claims, **changes):
    """Everything of a file with ``claims``, read at five seeds unless ``changes`` say otherwise."""
    return judge(load_claims(claims_file(tmp_path, *claims, **{"looks": [5], **changes})), rows)


def one(tmp_path, rows, **claim):
    """The record of one claim, read at five seeds."""
    (record,) = judged(tmp_path, rows, claim).claims
    return record
