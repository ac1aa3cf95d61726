"""Model cards in Hugging Face's format: what a trained policy is, and its published results as a ``model-index``.

A card speaks of a variant in one environment: its values are means over training seeds with their t-intervals, as
published, whichever seed's weights lie beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.config import ConfigError, hint
from common.evaluate.claims import headline_metric, load_claims
from common.evaluate.stats import t_interval
from common.rows import Label, MetricRow

CONFIDENCE = 0.95


def method_variant(root: Path, paper: str, rows: Sequence[MetricRow]) -> str:
    """The policy that the paper proposes: the variant of its name, else what its first claim calls better; without the
    way of acting with it (``+mcts``)."""
    if any(row.variant == paper for row in rows):
        return paper
    return Label.of(load_claims(root / "papers" / paper / "claims.yaml").claims[0].better[0]).policy


def best_variant(rows: Sequence[MetricRow], among: Sequence[str], metric: str) -> str | None:
    """Of ``among``, the one whose mean of ``metric`` on the first panel of ``rows`` is highest; None without rows."""
    panels = [row.panel for row in rows if row.metric == metric]
    values: dict[str, list[float]] = {}
    for row in rows:
        if row.metric == metric and row.variant in among and row.panel == panels[0]:
            values.setdefault(row.variant, []).append(row.value)
    return max(values, key=lambda variant: sum(values[variant]) / len(values[variant]), default=None)


def model_card(root: Path, rows: Sequence[MetricRow], *, variant: str, env: str, license: str) -> str:
    """The card's text (``README.md`` of a model folder) for a ``variant`` of the paper whose published ``rows`` are
    given.

    Every metric of the paper's claims that the variant has in ``env`` is in it, on every panel. ConfigError when there
    is none.
    """
    from huggingface_hub import EvalResult, ModelCardData

    mine = [row for row in rows if row.env == env]
    known = sorted({row.variant for row in mine})
    if variant not in known:
        raise ConfigError(f'variant: no row of "{variant}" in {env} is published; {hint(variant, known)}')
    paper, profile, scale = mine[0].paper, mine[0].profile, mine[0].scale
    claims = load_claims(root / "papers" / paper / "claims.yaml")
    metrics = dict.fromkeys([headline_metric(root / "papers" / paper / "claims.yaml"), *(one.metric for one in claims.claims)])
    results, lines = [], []
    for panel in dict.fromkeys(row.panel for row in mine):
        for metric in metrics:
            values = [row.value for row in mine if (row.variant, row.panel, row.metric) == (variant, panel, metric)]
            if not values:
                continue
            mean = sum(values) / len(values)
            interval = t_interval(values, confidence=CONFIDENCE) if len(values) > 1 else None
            low, high = (interval.low, interval.high) if interval else (None, None)
            spread = {"ci_low": _short(low), "ci_high": _short(high), "confidence": CONFIDENCE, "seeds": len(values)}
            results.append(EvalResult(
                task_type="text-generation", dataset_type=env, dataset_name=panel,
                dataset_split=panel.partition("/")[2], metric_type=metric, metric_value=_short(mean),
                metric_name=f"{metric}, mean over {len(values)} training seeds", metric_args=spread))  # fmt: skip
            around = f"[{low:.4f}, {high:.4f}]" if low is not None else "no interval"
            lines.append(f"| {panel} | {metric} | {mean:.4f} | {around} | {len(values)} |")
    if not results:
        raise ConfigError(f"variant: {variant} has none of the metrics of the claims ({', '.join(metrics)}) in {env}; "
                          "name a variant of the claims")
    data = ModelCardData(license=license.lower(), library_name="transformers", pipeline_tag="text-generation",
                         language="en", tags=["replication", paper, env], model_name=f"{paper}-{variant}-{env}",
                         eval_results=results)  # fmt: skip
    head, rule = "| panel | metric | mean | 95 % interval | seeds |", "|---|---|---|---|---|"
    return "\n".join([
        "---", data.to_yaml(), "---", f"# {variant} of {paper} in {env}", "",
        f"A policy of {scale} size, trained by a replication of {claims.source} (profile `{profile}`), as the variant "
        f"`{variant}` of `papers/{paper}/method.py`. It is made to measure a training method, not to be used: it knows "
        f"{env} and nothing else.", "",
        "## Results", "", f"Means over training seeds with t-intervals, from `results/{paper}/`. Weights are always of "
        "one of the seeds.", "", head, rule, *lines, "",
    ])  # fmt: skip


def _short(value: float | None) -> float | None:
    """Six digits: no number in the tables has more, and every platform writes the same text."""
    return None if value is None else float(f"{value:.6g}")
