"""results/ and docs/performance.md, both written by ``make bench`` and by nothing else: one file for each kind of processor."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.ticker import FormatStrFormatter, NullFormatter

from benchmarks.measure import Measure

GROUPS = {
    "sampling": "Sampling and scoring",
    "search": "Tree search",
    "training": "Training",
    "environments": "Environments",
    "lab": "The lab itself",
    "roofline": "What the machine can do",
}
Growth = dict[str, list[tuple[float, float]]]


def number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 1e-3 else f"{value * 1e6:.3g} µ"


def row(one: Measure) -> str:
    ratio = "" if one.ratio is None else f"{one.ratio:.2f} ({one.spread[0]:.2f} to {one.spread[1]:.2f})"
    bound = "at least" if one.better == "higher" else "at most"
    target = "" if one.target is None else f"{bound} {number(one.target)}"
    met = {None: "", True: "yes", False: "**no**"}[one.met]
    baseline = "" if one.baseline is None else f"{number(one.baseline)} ({one.against})"
    return f"| {one.name} | {one.unit} | {number(one.ours)} | {baseline} | {ratio} | {target} | {met} |"


def grown(curve: list[tuple[float, float]]) -> str:
    return ", ".join(f"{size:g}: {time:.2g} s" for size, time in curve)


def draw(growth: Growth, target: Path) -> None:
    """One panel a curve, both axes logarithmic, with the line of proportional growth from the first point."""
    columns = 3
    lines = -(-len(growth) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(4 * columns, 3 * lines), squeeze=False)
    for axis in axes.flat[len(growth) :]:
        axis.set_axis_off()
    for axis, (name, curve) in zip(axes.flat, growth.items(), strict=False):
        sizes, times = zip(*curve, strict=True)
        axis.loglog(sizes, times, "o-", color="#0072b2", label="measured")
        axis.loglog(sizes, [times[0] * size / sizes[0] for size in sizes], "--", color="#888888", label="proportional")
        axis.set(title=name, xlabel="size", ylabel="seconds")
        axis.set_xticks(sizes, [str(size) for size in sizes])
        for side in (axis.xaxis, axis.yaxis):
            side.set_minor_formatter(NullFormatter())  # labels between the decades overlap
        axis.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axis.grid(alpha=0.3)
    axes.flat[0].legend(frameon=False)
    figure.tight_layout()
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=110, facecolor="white")
    plt.close(figure)


def kind(machine: dict) -> str:
    """What a processor is told apart by: its name and the instructions that the kernel was built for."""
    return f"{machine['cpu']}, {machine['instructions']}"


def write(root: Path, machine: dict, found: list[Measure], growth: Growth, skipped: list[str], minutes: float) -> None:
    """Replace the results of this kind of processor, and write the page of all kinds."""
    record = {"machine": machine, "minutes": round(minutes, 1), "measures": [asdict(one) for one in found], "growth": growth, "skipped": skipped}
    results = root / "benchmarks" / "results"
    results.mkdir(exist_ok=True)
    name = re.sub(r"[^a-z0-9]+", "-", kind(machine).lower()).strip("-")
    (results / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if growth:
        draw(growth, root / "docs" / "images" / "growth.png")
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))]
    (root / "docs" / "performance.md").write_text(text(records, kind(machine)), encoding="utf-8")


def measures(record: dict) -> list[Measure]:
    return [Measure(**one | {"spread": tuple(one["spread"])}) for one in record["measures"]]


def text(records: list[dict], latest: str) -> str:
    """The page of ``records``, one for each kind of processor; the picture is of the ``latest``."""
    missed = [f"- {kind(record['machine'])}: {one.name}, {number(one.ours if one.ratio is None else one.ratio)} "
              f"({'at least' if one.better == 'higher' else 'at most'} {number(one.target)})"
              for record in records for one in measures(record) if one.met is False]  # fmt: skip
    parts = [
        "# Performance",
        "Written by `make bench`, by nothing else. Ratios are the claims, not times: ours and the other run by turns\n"
        "in one process on the same inputs; the median of the rounds' ratios is given, and the smallest and largest.",
        "A target is met when it is met on every kind of processor that the suite ran on: "
        f"{'; '.join(kind(record['machine']) for record in records)}. " + ("Missed are:" if missed else "None is missed."),
        *(["\n".join(missed)] if missed else []),
    ]
    for record in records:
        parts += section(record)
    parts += ["## Cost against size", f"Seconds against size on {latest}; dashed is proportional growth.", "![cost against size](images/growth.png)"]
    return "\n\n".join(parts) + "\n"


def section(record: dict) -> list[str]:
    parts = [f"## {kind(record['machine'])}",
             f"Machine: {', '.join(f'{name} {value}' for name, value in record['machine'].items())}. "
             f"The suite took {record['minutes']} min."]  # fmt: skip
    for group, title in GROUPS.items():
        rows = [one for one in measures(record) if one.group == group]
        if rows:
            notes: dict[str, list[str]] = {}
            for one in rows:
                if one.note:
                    notes.setdefault(one.note, []).append(one.name)
            sentences = [note if len(notes) == 1 else f"{'; '.join(names)}: {note}" for note, names in notes.items()]
            head = "| what | unit | ours | the other | ratio | target | met |\n|---|---|---|---|---|---|---|"
            parts += [f"### {title}", *(f"{sentence}." for sentence in sentences), "\n".join([head, *map(row, rows)])]
    if record["growth"]:
        parts += ["### Growth, seconds by size", "\n".join(f"- {name}: {grown(curve)}" for name, curve in record["growth"].items())]
    if record["skipped"]:
        parts += ["### Not measured", "\n".join(f"- {line}" for line in record["skipped"])]
    return parts
