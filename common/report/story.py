"""What a family's notebook shows of one unit: the paper's own part, its results, examples, curves, its family.

    story = open_story(paper=paper, env=env, seed=seed, profile=profile, overrides=overrides, train=train)
    story.idea()          # the idea from the paper's README, and worked out by hand
    story.run()           # trains only where ``train`` is true; else reads what is there
    story.results()

No cell names a paper: what belongs to one comes from its room, ``papers/<id>/README.md`` and ``figures.py``:

    LADDER, COLUMNS, CURVES, SHOWN     variants from the bottom up, metrics of the table, metrics of training, variants
                                       or trainings whose curves are drawn; all of them where it is left out
    toy() -> parts                     the equations beside their source, with small numbers
    results(rows, variants) -> parts   the paper's own figures
    examples(artifacts) -> parts       what the variants did, case by case

where parts are figures and Markdown texts in their order. Whatever a room leaves out has a default.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from common.config import ConfigError, check_paper, check_profile, hint, known_papers, load_spec
from common.evaluate.claims import headline_metric, load_claims
from common.evaluate.publish import read_claims
from common.report import figures, published, show, tables
from common.rows import MetricRow
from common.sweep.inputs import table_of
from common.sweep.plan import estimate
from common.sweep.unit import MissingInput, Unit, finished_unit, open_unit, project_root, results_dir
from common.track.events import read_events, training_part

Parts = Sequence[Figure | str]


@dataclass(frozen=True)
class NotebookContent:
    """A paper's own part of its family's notebook, see the module docstring."""

    ladder: tuple[str, ...]
    columns: tuple[str, ...]
    curves: tuple[str, ...] = ("loss", "grad_norm")
    shown: tuple[str, ...] = ()
    toy: Callable[[], Parts] = tuple
    results: Callable[[Sequence[MetricRow], Sequence[str]], Parts] = lambda rows, variants: ()
    examples: Callable[[Path], Parts] = lambda artifacts: ()


def notebook_content(root: Path, paper: str) -> NotebookContent:
    """The notebook content of ``paper``; what its ``figures.py`` leaves out is taken from its claims: every variant that one
    compares, and their metrics."""
    claims = root / "papers" / paper / "claims.yaml"
    rungs = dict.fromkeys(name for group in published.claim_groups(claims).values() for name in group)
    metrics = dict.fromkeys(claim.metric for claim in load_claims(claims).claims)
    content: dict[str, Any] = {"ladder": tuple(rungs), "columns": tuple(metrics)[:6]}
    if (claims.parent / "figures.py").exists():
        module = importlib.import_module(f"papers.{paper}.figures")
        for name in ("LADDER", "COLUMNS", "CURVES", "SHOWN", "toy", "results", "examples"):
            if hasattr(module, name):
                content[name.lower()] = getattr(module, name)
    return NotebookContent(**content)


@dataclass
class Story:
    """One unit of a paper, as its family's notebook shows it. ``unit`` is None where this machine has no run of it."""

    root: Path
    paper: str
    env: str
    seed: int
    profile: str
    overrides: Mapping[str, Any]
    family: str
    room: NotebookContent
    unit: Unit | None
    train: bool
    own: list[MetricRow] = field(default_factory=list)
    rows: list[MetricRow] = field(default_factory=list)
    where: str = ""

    @property
    def folder(self) -> Path:
        """The unit's folder: of this machine's run, or the part of it that is published; one that does not exist where there is neither."""
        if self.unit:
            return self.unit.run.path
        kept = results_dir(self.root, self.profile) / self.paper / "unit"
        known = json.loads((kept / "unit.json").read_text(encoding="utf-8")) if (kept / "unit.json").exists() else {}
        same = not self.overrides and (known.get("env"), known.get("seed"), known.get("profile")) == (self.env, self.seed, self.profile)
        return kept if same else self.root / "runs" / "none"

    @property
    def ladder(self) -> list[str]:
        """The paper's variants that have results, from the bottom up."""
        known = {row.variant for row in self.rows}
        return [variant for variant in self.room.ladder if variant in known]

    def readme(self, title: str) -> str:
        """A section of the paper's README, "" where it has none of that title."""
        return published.section(self.root / "papers" / self.paper / "README.md", title)

    # -- what the cells show -------------------------------------------------------------------------------------

    def idea(self) -> None:
        """The paper's idea with its equations, and its example worked by hand."""
        show.say(f"## {self.paper}: the idea", self.readme("The idea"))
        show.display_parts(self.room.toy())

    def run(self) -> None:
        """Train and evaluate all variants where training was asked for; read the rows of a unit that is finished."""
        if self.unit and self.train:
            from common import lab

            usual, _ = estimate(self.root, load_spec(self.root, self.paper), self.env, self.profile)
            with show.progress(self.unit.run, minutes=usual):
                self.own = lab.run(self.unit)
        elif self.unit:
            self.own = self.unit.run.rows()
        others, self.where = published.published_rows(self.root, self.paper, self.env, self.profile)
        self.rows = published.replace_seed(self.own, [] if self.overrides else others)
        show.say(self.note())

    def note(self) -> str:
        """A note on where the numbers below come from, and how to get others."""
        how = f"set `train = True` in the parameters cell, or run `python -m common run --paper {self.paper} --envs {self.env}`"
        if self.own:
            return f"This unit (seed {self.seed}) was computed on this machine. {self.where}"
        return f"Nothing was trained in this notebook; shown are published results.{self.kept()} {self.where} To compute this unit: {how}."

    def kept(self) -> str:
        """A note that examples and curves are those of a published unit, where they are."""
        if not self.folder.is_dir():
            return ""
        known = json.loads((self.folder / "unit.json").read_text(encoding="utf-8"))
        most = f"{known['largest']:.2g}" if known["largest"] < 1 else f"{known['largest']:.0f}, which is that of a count"
        again = (f", computed again on another processor: {known['values'] - known['differ']} of its {known['values']} values are the table's, the others "
                 f"differ by at most {most}" if known["differ"] else "")  # fmt: skip
        return f" Examples and curves are those of seed {self.seed}{again}."

    def results(self) -> None:
        """The paper's numbers, ours with intervals, and the paper's own figures."""
        show.say("**In the paper**", self.readme("What the paper reports"), f"**Here.** {self.where}")
        if not self.rows:
            return
        metric = headline_metric(self.root / "papers" / self.paper / "claims.yaml")
        panel = [row for row in self.rows if row.panel != f"{self.env}/train"]
        show.show(figures.ladder(panel, published.present(panel, self.ladder, metric), metric=metric))
        show.say(tables.summary_table(panel, self.ladder, self.room.columns), "What each variant cost:",
                 tables.cost_table(panel, self.ladder))
        show.display_parts(self.room.results(self.rows, self.ladder))

    def examples(self) -> None:
        """Cases in which variants differ, from what the unit recorded."""
        if self.folder.is_dir():
            show.display_parts(self.room.examples(self.folder / "artifacts"))
        else:
            show.say(f"Examples are kept of units that were run on this machine, and of one that is published; seed {self.seed} here is neither.")

    def curves(self) -> None:
        """Metrics of training, update by update."""
        points = training_points(self.folder / "events.jsonl")
        if not points:
            show.say("Training curves are kept of units that were run on this machine, and of one that is published.")
            return
        trained = dict.fromkeys(point["variant"] for point in points)
        if shown := [point for point in points if point["variant"] in (self.room.shown or trained)]:
            show.show(figures.curves(shown, self.room.curves))
        if absent := [name for name in self.room.shown if name not in trained]:
            show.say(f"SHOWN of figures.py names {', '.join(absent)}, which no training is called; trainings are: {', '.join(trained)}.")

    def compare(self) -> None:
        """The verdicts of all papers of this family."""
        folder = results_dir(self.root, self.profile) / "claims"
        records = read_claims(folder).claims if folder.is_dir() else []
        show.say(tables.family_table([record for record in records if record["family"] == self.family]))

    def family_rows(self) -> dict[str, list[MetricRow]]:
        """Paper → rows on this environment, for every paper of the family that has some."""
        papers = [paper for paper in known_papers(self.root) if load_spec(self.root, paper).family == self.family]
        rows_by_paper = {paper: published.published_rows(self.root, paper, self.env, self.profile)[0] for paper in papers}
        return {paper: rows for paper, rows in (rows_by_paper | {self.paper: self.rows}).items() if rows}

    def exercises(self) -> None:
        """Exercises of the paper's README."""
        show.say(self.readme("Exercises"))

    def end(self) -> None:
        """Say where the rows are stored."""
        own = f"{len(self.own)} metric rows: {self.unit.run.path.relative_to(self.root) / 'rows.jsonl'}; " if self.own else ""
        table = table_of(results_dir(self.root, self.profile), self.paper, self.env, self.profile).relative_to(self.root)
        print(f"{own}published: {table}")


def open_story(
    *, paper: str, env: str = "", seed: int = 0, profile: str = "cpu", overrides: Mapping[str, Any] | None = None,
    train: bool = False, root: Path | None = None,
) -> Story:
    """Check the names and values, before anything slow, and open the unit where it is to be trained or was finished here.

    ``env`` "" is the paper's first environment. With ``train`` false nothing is written. Raises ConfigError for a bad name
    or value, and with ``train`` MissingInput for an absent panel or base model.
    """
    root = project_root() if root is None else root
    check_paper(root, paper, "paper")
    check_profile(profile, "profile")
    spec = load_spec(root, paper)
    env = env or spec.envs[0]
    if env not in spec.envs:
        raise ConfigError(f'env: {paper} does not run on "{env}"; {hint(env, spec.envs)}')
    given = {"paper": paper, "env": env, "seed": seed, "profile": profile, "overrides": dict(overrides or {})}
    try:
        unit = open_unit(**given, root=root) if train else finished_unit(**given, root=root)
    except MissingInput:
        if train:
            raise
        unit = None
    show.quiet()
    return Story(root, paper, env, seed, profile, given["overrides"], spec.family, notebook_content(root, paper), unit, train)


def training_points(events: Path) -> list[dict[str, Any]]:
    """Records with variant, round, update, metric, value: what the trainer logged after each update."""
    points = []
    for event in read_events(events):
        for name, value in event["metrics"].items():
            if logged := training_part(name):
                points.append({"variant": event["variant"], "round": logged[0], "update": event["step"], "metric": logged[1],
                               "value": value})
    return points
