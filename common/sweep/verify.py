"""Recompute a random sample of published units from nothing and compare every number.

On the same processor the same code, data and libraries give the same bits, so a difference is news. On another one, or with other
code or libraries, a new value should lie in the prediction interval of the published seeds: where one more seed of the same
distribution would fall with the confidence asked for, or within what rounding moves (the tolerance of probes). Which of the two a
comparison is comes first, and what to do last.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.config import ConfigError, LabParams, from_json, load_spec
from common.evaluate.stats import prediction_interval
from common.rng import generator
from common.rows import MetricRow, read_metrics
from common.sweep.plan import Planned, default_envs, plan
from common.sweep.inputs import published_processors, same_weights, table_of
from common.sweep.unit import Unit, base_dir, results_dir
from common.track import processor
from common.track.fingerprints import NEAR_ZERO, TOLERANCE
from common.track.store import Run, finished_rows, unit_path

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Compared:
    """Rows of one recomputed unit against the published ones: identical values, and of the others those inside and
    outside the prediction interval of the published seeds."""

    name: str
    identical: int
    inside: int
    outside: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Identical throughout, or no more values outside than chance explains (twice the expected share)."""
        n = self.identical + self.inside + len(self.outside)
        return len(self.outside) <= 2 * (1 - CONFIDENCE) * n

    def __str__(self) -> str:
        n = self.identical + self.inside + len(self.outside)
        if self.identical == n:
            return f"{self.name}: all {n} values identical"
        text = (f"{self.name}: {self.identical} of {n} values identical, {self.inside} others inside the prediction "
                f"interval of the published seeds, {len(self.outside)} outside")  # fmt: skip
        return "\n  ".join([text, *self.outside[:10]])


def compare(name: str, new: Sequence[MetricRow], published: Sequence[MetricRow]) -> Compared:
    """``new`` rows of one unit against ``published`` rows of all seeds. ConfigError for a row that was never
    published, or one that is missing."""
    by_what: dict[tuple, dict[int, float]] = {}
    for row in published:
        by_what.setdefault((row.env, row.variant, row.panel, row.metric), {})[row.seed] = row.value
    known = {(what, seed) for what, seeds in by_what.items() for seed in seeds}
    got = {((row.env, row.variant, row.panel, row.metric), row.seed): row.value for row in new}
    wanted = {(what, seed) for what, seed in known if (what[0], seed) in {(row.env, row.seed) for row in new}}
    if odd := sorted(map(str, set(got) ^ wanted)):
        raise ConfigError(f"{name}: {len(odd)} rows are in one table only, first {odd[0]}; the table in results/ "
                          f"belongs to another version of the method, or lacks this seed; run: dvc repro run@{new[0].paper}")
    identical, inside, outside = 0, 0, []
    for (what, seed), value in got.items():
        others = by_what[what]
        if value == others[seed]:
            identical += 1
            continue
        expected = prediction_interval(list(others.values()), confidence=CONFIDENCE)
        # A base model's numbers are the same for all seeds, so that their interval is a point, which rounding alone would leave.
        rounding = max(TOLERANCE * abs(others[seed]), NEAR_ZERO)
        low, high = (expected.mean if end is None else end for end in (expected.low, expected.high))
        low, high = min(low, others[seed] - rounding), max(high, others[seed] + rounding)
        if low <= value <= high:
            inside += 1
        else:
            outside.append(f"{' '.join(what[1:])}: {value:.6g}, published {others[seed]:.6g}, "
                           f"interval [{low:.6g}, {high:.6g}]")  # fmt: skip
    return Compared(name, identical, inside, tuple(outside))


def _stages(found: Sequence[Finding]) -> str:
    return " ".join(dict.fromkeys(f"run@{one.paper}" for one in found))


@dataclass(frozen=True)
class Finding:
    """How one recomputed unit compares. ``elsewhere``: on another processor or with other instructions than the published ones, or
    than may be known. ``other_base``: the table was recorded with other weights of the base model, whose randomness no seed has."""

    paper: str
    compared: Compared
    elsewhere: bool
    other_base: bool

    @property
    def good(self) -> bool | None:
        """False when the numbers are not in order, None when they are not but need not be."""
        return True if self.compared.ok else None if self.other_base else False

    @property
    def identical(self) -> bool:
        return not self.compared.inside and not self.compared.outside


def another_processor(published: Sequence[processor.Processor], here: Sequence[processor.Processor]) -> str:
    """A sentence where the two are not known to be the same one processor with the same instructions, else ""."""
    if len(published) == len(here) == 1 and processor.alike(published[0], here[0]):
        return ""
    was = f"published on {processor.described(published)}" if published else "the table does not say which it was computed on"
    own = f"recomputed on {processor.described(here)}" if here else "nor is it known of the recomputed unit"
    return f"another processor: compared by the prediction interval ({was}; {own})"


def against_published(root: Path, one: Planned, folder: Path) -> Finding:
    """Print how the recomputed unit in the run folder ``folder`` compares with its published rows: the processor first."""
    table = table_of(results_dir(root, one.profile), one.paper, one.env, one.profile)
    compared = compare(one.name, finished_rows(folder), read_metrics(table))
    sentence = another_processor(published_processors(table, one.env, one.profile), processor.read(folder))
    print(*([f"{one.name}: {sentence}"] if sentence else []), compared, sep="\n", flush=True)
    found = Finding(one.paper, compared, bool(sentence), not same_weights(table, one.env, one.profile))
    if found.good is None:
        print("  the table was recorded with other weights of the base model, so equal numbers are not to be expected", flush=True)
    return found


def conclusion(found: Sequence[Finding]) -> str:
    """One sentence of what was found and what to do next; the worst that was found decides."""
    wrong = [one for one in found if one.good is False]
    moved = [one for one in found if one.good and not one.identical]
    other = [one for one in found if one.good is None]
    odd = [one for one in moved if not one.elsewhere]
    if wrong:
        return (f"found: {len(wrong)} of {len(found)} units have more values outside the prediction interval than chance explains; next: "
                f"python -m common doctor (are packages, panels and base models the published ones?), then dvc status {_stages(wrong)} (is "
                "the table out of date?)")
    if other:
        return ("found: numbers from another base model than the table's, which need not come out again; next, for a table of the base "
                f"model that is there: dvc repro {_stages(other)}")
    if odd:
        return ("found: values inside the prediction interval but not identical, though the processor is the published one; next, for "
                f"what else is another: python -m common doctor, then dvc status {_stages(odd)}")
    if moved:
        return ("found: values that one more seed would give, as another processor should and no closer than it can; next: nothing, or "
                "the same command on the published processor to compare digit by digit")
    return "found: every value identical; next: nothing"


def sample_units(root: Path, lab: LabParams, *, papers: Sequence[str], n: int, seed: int) -> list[Planned]:
    """``n`` units drawn without replacement from those that stand behind the published tables of ``papers``."""
    units = []
    for paper in papers:
        if (results_dir(root, lab.profile) / paper / "metrics.jsonl").exists():
            envs = default_envs(load_spec(root, paper))
            units += plan(root, paper, seeds=load_spec(root, paper).seeds or lab.seeds, profile=lab.profile, envs=envs)
    if not units:
        raise ConfigError(f"verify: no published table of {', '.join(papers)}; run: dvc repro")
    order = generator(seed, "verify").permutation(len(units))
    return [units[i] for i in order[:n]]


def _recompute(root: Path, planned: Planned, store: Path) -> None:
    """In a process of its own: the unit in another run store."""
    os.environ |= {"LAB_ROOT": str(root), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    sys.path.insert(0, str(root))
    from common.lab import run

    method = importlib.import_module(f"papers.{planned.paper}.method")
    run(Unit(root=root, paper=planned.paper, env=planned.env, seed=planned.seed, profile=planned.profile,
             params=from_json(method.Params, planned.unit.params), run=Run.open(store, planned.unit),
             base=base_dir(root, planned.env, planned.profile, planned.unit.params, planned.seed)))  # fmt: skip


def verify(root: Path, lab: LabParams, *, papers: Sequence[str], n: int, seed: int) -> bool:
    """Recompute ``n`` units one after the other and print how they compare; True when all are in order."""
    chosen = sample_units(root, lab, papers=papers, n=n, seed=seed)
    known = [one.minutes for one in chosen if one.minutes is not None]
    print(f"verify: {len(chosen)} units from nothing, about {sum(known):.0f} min (sample {seed}): "
          f"{', '.join(one.name for one in chosen)}", flush=True)  # fmt: skip
    found = []
    for one in chosen:
        store, start = Path(tempfile.mkdtemp(prefix="verify.", dir=_scratch(root))), time.monotonic()
        try:
            process = multiprocessing.get_context("spawn").Process(target=_recompute, args=(root, one, store))
            process.start()
            while process.is_alive():
                process.join(30)
                if process.is_alive():
                    print(f"  {one.name}: {(time.monotonic() - start) / 60:.1f} min so far", flush=True)
            if process.exitcode:
                raise ConfigError(f"verify: {one.name} ended with exit code {process.exitcode}; see the lines above")
            found.append(against_published(root, one, unit_path(store, one.unit)))
        finally:
            shutil.rmtree(store, ignore_errors=True)
    print(f"verify: {conclusion(found)}", flush=True)
    return all(one.good is not False for one in found)


def _scratch(root: Path) -> Path:
    folder = root / "runs"
    folder.mkdir(exist_ok=True)
    return folder
