"""Published results: rows of a paper, and the order in which its claims compare the variants."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from common.evaluate.claims import load_claims
from common.rows import Label, MetricRow, read_metrics
from common.sweep.unit import results_dir


def published_rows(root: Path, paper: str, env: str, profile: str) -> tuple[list[MetricRow], str]:
    """Rows of ``results/<paper>/`` for ``env``, and a sentence on where they are from.

    Those of ``profile`` if there are any, else those of another profile, else none.
    """
    for folder in dict.fromkeys((results_dir(root, profile), root / "results")):
        rows = [row for path in sorted((folder / paper).glob("metrics*.jsonl")) for row in read_metrics(path)]
        rows = [row for row in rows if row.env == env]
        profiles = sorted({row.profile for row in rows}, key=lambda name: (name != profile, name))
        if profiles:
            rows = [row for row in rows if row.profile == profiles[0]]
            seeds = len({row.seed for row in rows})
            return rows, f"Published: {paper} on {env}, profile `{profiles[0]}`, {seeds} seed{'s' * (seeds != 1)}."
    how = f"python -m common run --paper {paper} --envs {env} --profile {profile}"
    return [], f"Nothing is published for {paper} on {env} yet; `{how}` computes it."


def replace_seed(own: Sequence[MetricRow], others: Sequence[MetricRow]) -> list[MetricRow]:
    """``others`` with the rows of this unit's seed replaced by ``own``; only those of the same profile join.

    For a unit with overrides pass no others: its numbers belong to another setting.
    """
    if not own:
        return list(others)
    return [*(row for row in others if row.profile == own[0].profile and row.seed != own[0].seed), *own]


def claim_groups(path: Path) -> dict[str, list[str]]:
    """``D2.4`` → its variants from the bottom of the ladder to the top, for every group of claims.

    A claim's group is its id without the trailing letter. Order: by how many "better than" steps lie between
    a variant and the top, then as in the file; differences "x - y" are read as both of their variants.
    """
    groups: dict[str, dict[str, set[str]]] = {}
    for claim in load_claims(path).claims:
        above = groups.setdefault(claim.id.rstrip("abcdefghijklmnopqrstuvwxyz"), {})
        for variant in claim.variants:
            above.setdefault(variant, set())
        if len(claim.better) == 1:
            above[claim.worse[0]].add(claim.better[0])
    return {name: sorted(above, key=lambda variant: -_steps_to_top(variant, above)) for name, above in groups.items()}


def _steps_to_top(variant: str, above: Mapping[str, set[str]], seen: tuple[str, ...] = ()) -> int:
    higher = [v for v in above[variant] if v not in seen]
    return 1 + max(_steps_to_top(v, above, (*seen, variant)) for v in higher) if higher else 0


def present(rows: Iterable[MetricRow], variants: Sequence[str], metric: str = "success") -> list[str]:
    """Those of ``variants`` that have rows of ``metric``, in their order."""
    known = {row.variant for row in rows if row.metric == metric}
    return [variant for variant in variants if variant in known]


def acting(rows: Iterable[MetricRow], policies: Sequence[str]) -> list[str]:
    """Each of ``policies`` that was also tested with search, and after it its ``+bon`` and ``+mcts``; once, also where ``policies``
    names one of its ways to act beside it."""
    known = {Label.of(row.variant) for row in rows}
    labels = dict.fromkeys(replace(Label.of(policy), acting="") for policy in policies)
    ways = [replace(one, acting=how) for one in labels if replace(one, acting="mcts") in known for how in ("", "bon", "mcts")]
    return [str(one) for one in ways if one in known]


def section(path: Path, title: str) -> str:
    """The text of a Markdown file under the heading ``title``, without it; "" when there is none."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    match = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)", text, re.M | re.S)
    return match[1].strip() if match else ""
