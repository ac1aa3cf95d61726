"""The site's pages as Markdown, made of tables, claims and documents; no number is computed here.

A page is its address below the site's folder (``papers/agent_q.md``) and its text; pictures are SVG texts beside them.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from common.config.index import IMPLEMENTED, INDEX, Entry, entries
from common.evaluate.claims import headline_metric, load_claims
from common.evaluate.publish import judge_all, load_rows
from common.evaluate.tables import DECIDED, NANO, _number, admission_table, blocks, changed_rule, looks_apart, short_reason
from common.evaluate.verdicts import Judged
from common.report import overview, pictures, published, tables
from common.report.notebooks import Executed, executed
from common.report.overview import FAMILIES, SIGNS
from common.report.show import svg
from common.rows import MetricRow
from common.sweep.inputs import Tables, table_of, table_states
from common.sweep.plan import USER_ENVS
from common.sweep.unit import results_dir

DOCUMENTS = {"findings.md": ("docs/findings.md", "What was learned"), "results.md": ("docs/results.md", "All verdicts"), "pretrained.md": ("docs/pretrained.md", "Single-seed trial runs of pretrained models"),
             "verdicts.md": ("docs/verdicts.md", "How a verdict is made"),
             "adding-a-paper.md": ("docs/adding-a-paper.md", "How to add a paper"),
             "install.md": ("docs/install.md", "Install"), "licences.md": ("docs/licences.md", "Licences"),
             "pipeline.md": ("docs/pipeline.md", "The pipeline"), "walkthrough.md": ("docs/walkthrough.md", "A walk through the laboratory"),
             "sweeps.md": ("docs/sweeps.md", "Sweeps"), "scaling.md": ("docs/scaling.md", "Many GPUs"),
             "tracking.md": ("docs/tracking.md", "Runs in MLflow"), "identity.md": ("docs/identity.md", "When a result is out of date"),
             "metrics.md": ("docs/metrics.md", "Glossary of metrics"),
             "discrepancies.md": ("docs/discrepancies.md", "Ledger of discrepancies"),
             "lab-log.md": ("docs/lab-log.md", "Lab log"), "performance.md": ("docs/performance.md", "Performance"),
             "changelog.md": ("CHANGELOG.md", "Changelog")}  # fmt: skip
"""Page → the file it shows and its name in the navigation."""
LOG = "docs/lab-log"
"""The folder with the lab log's pages, one a year and topic; DOCUMENTS has their index."""

_BLOCK = re.compile(r"<!-- [\w./@+-]+:begin -->.*?<!-- [\w./@+-]+:end -->\n?", re.S)
_SECTION = re.compile(r"^## +(.+?)\n(.*?)(?=^## |\Z)", re.M | re.S)


@dataclass(frozen=True)
class Paper:
    """A folder below ``papers/`` and its line of ``papers/index.csv``: ``title``, ``arxiv`` and ``url`` may be ""."""

    id: str
    name: str
    family: str
    title: str
    arxiv: str
    url: str


@dataclass(frozen=True)
class SiteData:
    """All that pages are made of: metric rows and verdicts of a profile's results, papers, executed notebooks."""

    root: Path
    profile: str
    rows: Sequence[MetricRow]
    judged: Judged
    papers: Sequence[Paper]
    notebooks: Sequence[Executed]
    states: Tables

    @property
    def records(self) -> Sequence[Mapping[str, Any]]:
        return self.judged.claims

    @property
    def results(self) -> Path:
        return results_dir(self.root, self.profile)


def read_lab(root: Path, profile: str) -> SiteData:
    """Read what ``root`` has; a clone in which nothing was run has the published tables and no executed notebooks."""
    folder = results_dir(root, profile)
    rows, judged = load_rows(folder), judge_all(folder, root / "papers")
    states = table_states(root, folder, judged.claims)
    return SiteData(root, profile, rows, looks_apart(judged)[0], papers(root), executed(root, rows), states)


def papers(root: Path) -> list[Paper]:
    """The papers that have a folder, by family and name."""
    listed, entries = index(root), []
    for path in sorted(root.glob("papers/*/claims.yaml")):
        line, readme = listed.get(path.parent.name), _text(path.with_name("README.md"))
        heading = re.match(r"# +(.+)", readme)
        name = heading[1].strip() if heading else path.parent.name
        about = (line.title, line.arxiv, line.url) if line else ("", "", "")
        entries.append(Paper(path.parent.name, name, load_claims(path).family, *about))
    return sorted(entries, key=lambda paper: (paper.family, paper.name.lower()))


def index(root: Path) -> dict[str, Entry]:
    """The lines of ``papers/index.csv`` by id: every paper of the four families."""
    return entries(root) if (root / INDEX).exists() else {}


def pages(lab: SiteData) -> dict[str, str]:
    """All pages and pictures, address → text."""
    drawn = {"images/verdicts.svg": svg(overview.draw(lab.records))} if lab.records else {}
    made = drawn | {"index.md": front(lab), "papers/index.md": paper_list(lab), "notebooks/index.md": notebook_list(lab)}
    for paper in lab.papers:
        pictured = _pictures(lab, paper)
        made |= {f"images/{name}": text for name, (text, _) in pictured.items()}
        made[f"papers/{paper.id}.md"] = paper_page(lab, paper, {name: alt for name, (_, alt) in pictured.items()})
    made |= {page: _document(lab.root / file) for page, (file, _) in DOCUMENTS.items() if (lab.root / file).exists()}
    made |= {f"lab-log/{path.name}": _document(path) for path in sorted((lab.root / LOG).glob("*.md"))}
    return made


def _document(path: Path) -> str:
    """A document whose links to papers' READMEs lead to the papers' pages, which show those READMEs on the site."""
    return re.sub(r"\]\((?:\.\./)?papers/(\w+)/README\.md", r"](papers/\1.md", _text(path))


def navigation(lab: SiteData, made: Mapping[str, str]) -> list[Any]:
    """MkDocs' ``nav``: verdicts, papers by family, notebooks, documents."""
    families: dict[str, list[dict[str, str]]] = {}
    for paper in lab.papers:
        families.setdefault(family_name(paper.family), []).append({paper.name: f"papers/{paper.id}.md"})
    documents = {page: {name: page} for page, (_, name) in DOCUMENTS.items() if page in made}
    logs = [documents.pop(page) for page in ("lab-log.md", "performance.md", "changelog.md") if page in documents]
    logs += [{re.match(r"# (.+)", made[page])[1]: page} for page in made if page.startswith("lab-log/")]
    sections = {"Papers": ["papers/index.md", *({name: found} for name, found in families.items())],
                "Notebooks": "notebooks/index.md", "Reference": list(documents.values()), "Log": logs}
    return [{"Verdicts": "index.md"}, *({name: found} for name, found in sections.items() if found)]


def family_name(family: str) -> str:
    return FAMILIES.get(family, family)


# -- the front page ------------------------------------------------------------------------------------


def front(lab: SiteData) -> str:
    """At a glance, then every verdict in a table that a script makes sortable and filterable."""
    counts = Counter(record["verdict"] for record in lab.records)
    counted = ", ".join(f"**{counts[verdict]} {verdict}**" for verdict in SIGNS)
    signs = ", ".join(f"{sign} {verdict}" for verdict, sign in SIGNS.items())
    picture = [f"![A line for each paper, a cell for each claim: {signs}](images/verdicts.svg)\n"] if lab.records else []
    offered = {"verdicts.md": "how a verdict is made", "walkthrough.md": "how to run it", "adding-a-paper.md": "how to add a paper"}
    links = [f"[{words}]({page})" for page, words in offered.items() if (lab.root / DOCUMENTS[page][0]).exists()]
    exceptions = " ([three exceptions](results.md))" if (lab.root / DOCUMENTS["results.md"][0]).exists() else ""
    parts = ["---\ntitle: Verdicts\nhide: [navigation, toc]\n---\n\n# Do the papers' claims hold?\n",
             "Training methods of papers on LLM agents, replicated at small scale: with *nano* models, which are small and trained from scratch, "
             "and with pretrained language models. A claim compares two variants of a method, each trained with several seeds. Its effect is the "
             "mean difference over seeds, signed so that positive speaks for the claim; its verdict is read from the interval around it, by a rule "
             f"that was written into `papers/<id>/claims.yaml` before the results{exceptions}. *Undecided* does not mean that there is no effect; *no effect* "
             "does: none as large as the claim's smallest effect of interest.\n",
             *([f"Read on: {', '.join(links)}.\n"] if links else []),
             (f"{len(lab.records)} verdicts: {counted}.\n" if lab.records
              else "No claim has been judged yet: run `make repro`.\n"),
             *learned(lab), "## At a glance\n", *picture, glance(lab), "\n## Every verdict\n", verdict_table(lab)]
    if lab.judged.admission:
        parts += ["\n## Admission checks\n", "Where one does not hold, its claims are not testable here.\n",
                  admission_table(lab.judged.admission).replace("/README.md)", ".md)"), ""]
    return "\n".join(parts)


def learned(lab: SiteData) -> list[str]:
    """The section *In short* of ``docs/findings.md``, if there is one."""
    document, _ = DOCUMENTS["findings.md"]
    short = published.section(lab.root / document, "In short")
    marks = "In brackets: the claim that a sentence rests on, its verdict, and its effect, positive where it speaks for the claim.\n"
    return ["## What was learned\n", marks, short, "\nFamily by family, and how sure: [what was learned](findings.md).\n"] if short and lab.records else []


def glance(lab: SiteData) -> str:
    """Counts of verdicts, a line for each paper and model that it started from."""
    lines = []
    for paper in lab.papers:
        runs: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        for record in lab.records:
            if record["paper"] == paper.id:
                runs.setdefault((record["profile"], record["scale"]), []).append(record)
        for (profile, scale), mine in (runs or {("", ""): []}).items():
            counts = Counter(record["verdict"] for record in mine)
            numbers = [counts[verdict] for verdict in SIGNS] if mine else ["not recorded", *[""] * (len(SIGNS) - 1)]
            seeds = max((record["n_seeds"] for record in mine), default="")
            old = " (stale)" if any(one.stale for (of, _, at), one in lab.states.items() if (of, at) == (paper.id, profile)) else ""
            lines.append((f"[{paper.name}](papers/{paper.id}.md){old}", scale, family_name(paper.family), *numbers, seeds))
    head = ("paper", "model", "family", *(f"{sign} {verdict}" for verdict, sign in SIGNS.items()), "seeds")
    return tables.markdown(head, lines, numbers=len(SIGNS) + 1) + "\n"


def verdict_table(lab: SiteData) -> str:
    """One row a verdict, as HTML, since rows and cells carry what the script sorts and filters by."""
    if not lab.records:
        return ""
    names = {paper.id: paper.name for paper in lab.papers}
    levels = " / ".join(f"{level:g}" for level in sorted({100 * record["confidence"] for record in lab.records}))
    titles = ("Paper", "Claim", "Panel", "Verdict", f"Effect [simultaneous {levels} % interval]", "Seeds", "Family", "Profile")
    head = "".join(f'<th scope="col">{title}</th>' for title in titles)
    return "\n".join([_filters(lab.records),
                      '<div class="scroll" role="region" aria-label="Every verdict" tabindex="0">',
                      '<table class="verdicts" id="verdicts">', f"<thead><tr>{head}</tr></thead>", "<tbody>",
                      *(_verdict_row(record, names) for record in lab.records), "</tbody></table></div>", ""])


def _filters(records: Sequence[Mapping[str, Any]]) -> str:
    def select(name: str, values: Sequence[str]) -> str:
        options = "".join(f'<option value="{value}">{family_name(value)}</option>' for value in values)
        return (f'<label>{name.capitalize()} <select name="{name}"><option value="">all</option>{options}</select>'
                "</label>")

    chosen = [select(name, sorted({record[name] for record in records})) for name in ("family", "verdict", "profile")]
    return ('<form class="filters" id="filters" hidden>' + "".join(chosen) +
            '<label>Words <input type="search" name="words" placeholder="in any column"></label>'
            '<button type="reset">Show all, first order</button><output name="shown"></output></form>')


def _verdict_row(record: Mapping[str, Any], names: Mapping[str, str]) -> str:
    claim = html.escape(f"{record['id']} {record['statement']}")
    value = "" if record["effect"] is None else f"{record['effect']:g}"
    effect = "–" if record["effect"] is None else _number(record["effect"], sign=True)
    if record["ci_low"] is not None:
        effect += f" [{_number(record['ci_low'], sign=True)}, {_number(record['ci_high'], sign=True)}]"
    paper, seeds, profile = record["paper"], record["n_seeds"], record["profile"]
    why = f" ({html.escape(short_reason(record))})" if record["verdict"] not in DECIDED and record["reason"] else ""
    changed = f" <em>{changed_rule(record).strip('*')}</em>" if record["earlier"] else ""
    return (f'<tr data-family="{record["family"]}" data-verdict="{record["verdict"]}" data-profile="{profile}">'
            f'<td><a href="papers/{paper}.html">{html.escape(names.get(paper, paper))}</a></td>'
            f'<td class="claim">{claim}</td><td>{html.escape(record["panel"])}</td><td>{mark(record["verdict"])}{why}{changed}</td>'
            f'<td class="effect" data-value="{value}">{effect}</td><td data-value="{seeds}">{seeds}</td>'
            f'<td>{family_name(record["family"])}</td><td>{profile}</td></tr>')


def mark(verdict: str) -> str:
    return f'<span class="verdict {verdict.replace(" ", "-")}">{SIGNS[verdict]} {verdict}</span>'


# -- papers --------------------------------------------------------------------------------------------


def paper_list(lab: SiteData) -> str:
    """The papers with a page, then all others of the four families with their status."""
    parts = ["# Papers\n", *(f"- [{paper.name}](./{paper.id}.md): {paper.title} ({family_name(paper.family)})"
                             for paper in lab.papers)]  # fmt: skip
    others = [line for line in index(lab.root).values() if line.status != IMPLEMENTED]
    if others:
        cells = [(f"[{line.title}]({line.url})", family_name(line.family), line.status, line.note)
                 for line in others]  # fmt: skip
        escaped = [[cell.replace("|", "\\|") for cell in line] for line in cells]
        parts += [f"\n## Not replicated here ({len(others)})\n",
                  "An *analogue* would test, with small models that are trained, what its paper has a prompted large model do.\n", tables.markdown(("paper", "family", "status", "note"), escaped)]
    return "\n".join(parts) + "\n"


def paper_page(lab: SiteData, paper: Paper, pictured: Mapping[str, str]) -> str:
    """One paper. ``pictured``: name of each of its pictures → what it shows."""
    rows = [row for row in lab.rows if row.paper == paper.id]
    judged = lab.judged.of(paper=paper.id)
    records, made = judged.claims, blocks(judged, rows, [paper.id])
    intro, sections = readme(_text(lab.root / "papers" / paper.id / "README.md"))
    reported = {title: text for title, text in sections.items() if title == "What the paper reports"}
    rest = {title: text for title, text in sections.items() if title not in reported}
    source = f"[{paper.title}]({paper.url})" if paper.url else paper.title
    about = " · ".join(text for text in (source, family_name(paper.family), f"`papers/{paper.id}/`") if text)
    parts = [f"# {paper.name}", about, intro, *_titled(reported),
             "## Claims and verdicts", _marked(made[f"claims/{paper.id}"])]
    if pictured:
        parts += ["## Figures", *(f"![{alt}](../images/{name})\n\n*{alt}*" for name, alt in pictured.items())]
    parts += ["## Every variant", made[f"ladder/{paper.id}"],
              "## Deviations from the paper", deviations(lab.root, paper), "## Cost", cost(lab, paper, rows),
              "## Compute it again", commands(lab, paper, rows, records), *_titled(rest)]
    return "\n\n".join(part for part in parts if part) + "\n"


def readme(text: str) -> tuple[str, dict[str, str]]:
    """A paper's README without its heading and its marked tables: what stands first, and the sections that are left."""
    text = _BLOCK.sub("", re.sub(r"\A# .*\n", "", text))
    sections = {title.strip(): body.strip() for title, body in _SECTION.findall(text)}
    first = re.split(r"^## ", text, maxsplit=1, flags=re.M)[0].strip()
    return first, {title: body for title, body in sections.items() if body}


def deviations(root: Path, paper: Paper) -> str:
    """The differences from the paper that the method's docstring numbers, and the paper's part of ``docs/discrepancies.md``."""
    method = _text(root / "papers" / paper.id / "method.py")
    docstring = re.match(r'r?"""(.*?)"""', method, re.S)
    numbered = re.search(r"^Differs from the paper:\n(.*?)(?=^\S|\Z)", docstring[1] if docstring else "", re.M | re.S)
    ledger = next((body.strip() for title, body in _SECTION.findall(_text(root / "docs/discrepancies.md"))
                   if paper.arxiv and f"arXiv {paper.arxiv}" in title), "")
    parts = []
    if numbered:
        parts = [f"As numbered in `papers/{paper.id}/method.py`:",
                 re.sub(r"^ +(?=\d+\.)", "", numbered[1], flags=re.M).rstrip()]
    parts += ["Where the paper, its code and this project disagree or the paper is silent "
              "([whole ledger](../discrepancies.md)):", ledger] if ledger else []
    return "\n\n".join(parts) or "None is written down yet."


def cost(lab: SiteData, paper: Paper, rows: Sequence[MetricRow]) -> str:
    """Minutes and disk of a unit, and what each variant spent."""
    parts = [tables.timing_table(lab.results, paper.id)]
    for scale in _scales(rows) or [NANO]:
        mine = [row for row in rows if row.scale == scale]
        spent = tables.cost_table(mine, sorted({row.variant for row in mine}))
        folded = "\n".join(f"    {line}" for line in spent.splitlines())
        parts.append(f'??? note "What each variant spent, {scale} scale, mean over seeds"\n\n{folded}')
    return "\n\n".join(parts)


def commands(lab: SiteData, paper: Paper, rows: Sequence[MetricRow], records: Sequence[Mapping[str, Any]]) -> str:
    """The commands that make this page's numbers, those that trace one of them, and the executed notebooks."""
    profile = f" PROFILE={lab.profile}" if lab.profile != "cpu" else ""
    option = f" --profile {lab.profile}" if lab.profile != "cpu" else ""
    lines = [f"make repro PAPERS={paper.id}{profile}", *_narrow(lab, paper, rows)]
    if records:
        lines.append(f"python -m common explain {paper.id}/{records[0]['id']}@{records[0]['panel']}{option}")
    if rows:
        metric = headline_metric(lab.root / "papers" / paper.id / "claims.yaml")
        first = min(rows, key=lambda row: (row.profile != lab.profile, row.metric != metric, row.identity))
        lines.append(f"python -m common explain {paper.id}/{first.variant}/{first.metric}{option}")
    shown = ", ".join(f'<a href="../notebooks/{one.name}.html">{one.env}, seed {one.seed}{_of(one, lab.profile)}</a>'
                      for one in lab.notebooks if one.paper == paper.id)  # fmt: skip
    return "\n".join(["```text", *lines, "```", "",
                      "`make` and `run` compute the numbers of this page, or find them computed; `explain` says where a "
                      "verdict and a mean come from, down to unit, hashes and commit.", "",
                      *(f"The table of {env} (`{at}`) is {state}."
                        for (of, env, at), state in lab.states.items() if of == paper.id), "",
                      f"Executed notebooks: {shown or 'none here yet; the first line makes them'}."])


def _narrow(lab: SiteData, paper: Paper, rows: Sequence[MetricRow]) -> list[str]:
    """What computes the tables that ``make repro`` does not: of other profiles, and of environments that are asked for by name."""
    parts = []
    for profile, env in sorted({(row.profile, row.env) for row in rows}):
        table = table_of(lab.results, paper.id, env, profile)
        if table.name != "metrics.jsonl":
            seeds = ",".join(map(str, sorted({row.seed for row in rows if (row.profile, row.env) == (profile, env)})))
            option = f" --profile {profile}" if profile != "cpu" else ""
            parts.append(f"python -m common run --paper {paper.id} --envs {env}{option} --seeds {seeds} "
                            f"--results {table.relative_to(lab.root)}")  # fmt: skip
    return parts


def _of(one: Executed, profile: str) -> str:
    return f" ({one.profile})" if one.profile != profile else ""


def _pictures(lab: SiteData, paper: Paper) -> dict[str, tuple[str, str]]:
    """Name → (SVG, what it shows), of each model. Environments with a single seed are left to the tables, if they need a user's
    files or the model came pretrained."""
    drawn = {}
    mine = [row for row in lab.rows if row.paper == paper.id]
    for scale in _scales(mine):
        seeds: dict[str, set[int]] = {}
        for row in mine:
            if row.scale == scale:
                seeds.setdefault(row.env, set()).add(row.seed)
        envs = {env for env, some in seeds.items() if len(some) > 1 or (scale == NANO and env not in USER_ENVS)}
        rows = [row for row in mine if row.scale == scale and row.env in envs]
        records = [record for record in lab.records if (record["paper"], record["scale"]) == (paper.id, scale)
                   and record["env"] in envs]  # fmt: skip
        name, by = (paper.id, "") if scale == NANO else (f"{paper.id}_{scale}", f"{scale}, ")
        made = pictures.of_paper(lab.root, rows, records) if rows else {}
        for kind, figure in made.items():
            drawn[f"{name}_{kind}.svg"] = (svg(figure), f"{paper.name}: {by}{pictures.SHOWS[kind]}")
    return drawn


def _scales(rows: Sequence[MetricRow]) -> list[str]:
    """Models of ``rows``, that of nano policies first."""
    return sorted({row.scale for row in rows}, key=lambda scale: (scale != NANO, scale))


def _marked(table: str) -> str:
    """A claims table with signs beside its verdicts."""
    verdict = re.compile(rf"\| \*{{0,2}}({'|'.join(SIGNS)})\*{{0,2}}(?= [^|]*\|$)", re.M)  # of the last column
    return verdict.sub(lambda found: f"| {mark(found[1])}", table)


def _titled(sections: Mapping[str, str]) -> list[str]:
    return [f"## {title}\n\n{text}" for title, text in sections.items()]


# -- notebooks -----------------------------------------------------------------------------------------


def notebook_list(lab: SiteData) -> str:
    """Every notebook of the project: where it lies, which papers run in it, and the executed copies that are here."""
    stories_of: dict[str, list[Paper]] = {}
    for paper in lab.papers:
        parameters = _text(lab.root / "papers" / paper.id / "params.yaml")
        found = re.search(r"^notebook: *notebooks/(\w+)\.py", parameters, re.M)
        if found:
            stories_of.setdefault(found[1], []).append(paper)
    here = {one.name: one for one in lab.notebooks}
    parts = ["# Notebooks\n",
             "Executed notebooks, each in one file that loads nothing. Open them for yourself with `make lab`.\n"]
    for source in sorted((lab.root / "notebooks").glob("*.py")):
        title = re.search(r"^# # (.+)", _text(source), re.M)
        parts.append(f"## {title[1] if title else source.stem}\n\n`notebooks/{source.name}`\n")
        if source.stem not in stories_of:
            maker = "make report" if source.stem == "90_report" else "make smoke"
            parts.append(f'<a href="{source.stem}.html">Executed</a>\n' if source.stem in here else
                         f"Not executed here; `{maker}` executes it.\n")
        for paper in stories_of.get(source.stem, ()):
            mine = [one for one in lab.notebooks if one.paper == paper.id]
            shown = "; ".join(f"{env}: " + ", ".join(f'<a href="{one.name}.html">seed {one.seed}{_of(one, lab.profile)}</a>' for one in found)
                              for env, found in groupby(mine, key=lambda one: one.env))
            parts.append(f"- [{paper.name}](../papers/{paper.id}.md): "
                         + (shown or f"not executed here; `make repro PAPERS={paper.id}` does it"))
        parts.append("")
    return "\n".join(parts)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""
