"""``python -m common check-paper ID``: what a paper's room still lacks, each with the next step."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from common.config import ConfigError, PaperSpec, RUN_PROFILES, check_paper, load_lab, load_spec, resolve
from common.evaluate.claims import load_claims
from common.config.index import entry_of
from common.rows import read_metrics
from common.sweep.unit import params_class

SECTIONS = ("The idea", "What the paper reports", "Our claims", "Equation, function, test", "Known limits", "Run it")
MOST_METHOD = 250
"""Lines of method.py."""
MOST = 650
"""Lines of a room with its tests; tables that commands fill in are not counted."""
FILLED = re.compile(r"(?<=:begin -->\n).*?(?=^<!-- )", re.MULTILINE | re.DOTALL)
PLACEHOLDER = re.compile(r"placeholder of new-paper|replace this by|^id: D0|- id: D0\b", re.MULTILINE)


def missing(root: Path, paper: str) -> list[str]:
    """One sentence for each thing that is missing or wrong; [] for a complete room. ConfigError for a room that is none."""
    entry_of(root, paper)
    check_paper(root, paper, "paper")
    spec = load_spec(root, paper)
    problems: list[str] = []
    for check in (_parameters, _claims, _figures, _readme, _metrics, _sizes, _placeholders, _registered):
        try:
            problems += check(root, spec)
        except ConfigError as error:
            problems.append(str(error))
    return problems


def _parameters(root: Path, spec: PaperSpec) -> Iterator[str]:
    """Every parameter has a value, of its type and in its range, at every profile."""
    cls = params_class(root, spec)
    for profile in RUN_PROFILES:
        for env in spec.envs:
            resolve(cls, spec, profile, env)
    yield from ()


def _claims(root: Path, spec: PaperSpec) -> Iterator[str]:
    """Every variant of a claim, and of an admission check, is one that the method has, or a way of acting with its weights."""
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    method = importlib.import_module(f"papers.{spec.paper}.method")
    params = resolve(method.Params, spec, "cpu", spec.envs[0])
    names = {variant.name for variant in method.variants(params)}
    if hasattr(method, "compare"):  # it may name results of its own
        return
    claims = load_claims(root / "papers" / spec.paper / "claims.yaml").claims
    named = {(f"claim {claim.id}", variant) for claim in claims for variant in claim.variants}
    named |= {(f"check {check.id}", variant) for claim in claims for check in claim.checks for variant in (term.variant for term in check.terms)}
    for what, variant in sorted(named):
        if variant not in names and re.split(r"[+@]", variant)[0] not in names:
            yield (f'papers/{spec.paper}/claims.yaml: {what} names the variant "{variant}", which variants(p) of '
                   f"method.py does not have ({', '.join(sorted(names))}); correct one of them")


def _figures(root: Path, spec: PaperSpec) -> Iterator[str]:
    """The paper's own part of the notebook can be loaded: its unit would fail there, after the parameters and before any training."""
    if (root / "papers" / spec.paper / "figures.py").exists():
        try:
            importlib.import_module(f"papers.{spec.paper}.figures")
        except ImportError as error:
            yield f"papers/{spec.paper}/figures.py cannot be loaded: {error}; correct the import"


def _readme(root: Path, spec: PaperSpec) -> Iterator[str]:
    path = root / "papers" / spec.paper / "README.md"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    for title in SECTIONS:
        if f"\n## {title}\n" not in text:
            yield f'papers/{spec.paper}/README.md has no section "## {title}"; write it, the notebook and the site show it'
    for block in ("claims", "ladder"):
        if f"<!-- {block}/{spec.paper}:begin -->" not in text:
            yield (f"papers/{spec.paper}/README.md has no place for the {block} table; add the lines <!-- {block}/{spec.paper}:begin --> "
                   f"and <!-- {block}/{spec.paper}:end -->, which python -m common claims fills")
    for file in re.findall(r"`((?:papers|common|tests)/[\w/]+\.py)", text):
        if not (root / file).exists():
            yield f"papers/{spec.paper}/README.md names {file}, which does not exist; correct the table of equations"


def metrics_unexplained(root: Path, paper: str) -> list[str]:
    """Metrics that the paper's claims or tables have and neither docs/metrics.md nor its README's section "Metrics" explains."""
    readme = (root / "papers" / paper / "README.md").read_text(encoding="utf-8")
    own = re.search(r"^## Metrics\n(.*?)(?=^## |\Z)", readme, re.MULTILINE | re.DOTALL)
    known = set(re.findall(r"`([\w@+=.-]+)`", (root / "docs" / "metrics.md").read_text(encoding="utf-8") + (own[1] if own else "")))
    used = {claim.metric for claim in load_claims(root / "papers" / paper / "claims.yaml").claims}
    used |= {row.metric for path in (root / "results" / paper).glob("metrics*.jsonl") for row in read_metrics(path)}
    return sorted({metric.removeprefix("greedy_") for metric in used} - known)


def _metrics(root: Path, spec: PaperSpec) -> Iterator[str]:
    for metric in metrics_unexplained(root, spec.paper):
        yield (f"papers/{spec.paper}/README.md does not say what the metric {metric} is, nor does docs/metrics.md; add a line to the table "
               'of a section "## Metrics"')


def lines_of(root: Path, paper: str) -> dict[str, int]:
    """File → lines, of the room and its tests; tables between the marks of a README are left out."""
    files = [*(root / "papers" / paper).glob("*"), *(root / "tests" / "papers").glob(f"test_{paper}*.py")]
    texts = {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in sorted(files) if path.is_file()}
    return {name: len(FILLED.sub("", text).splitlines()) for name, text in texts.items()}


def _sizes(root: Path, spec: PaperSpec) -> Iterator[str]:
    lines = lines_of(root, spec.paper)
    method = f"papers/{spec.paper}/method.py"
    if lines.get(method, 0) > MOST_METHOD:
        yield f"{method} has {lines[method]} lines but must have at most {MOST_METHOD}; move mathematics to maths.py"
    if sum(lines.values()) > MOST:
        yield (f"papers/{spec.paper} has {sum(lines.values())} lines with its tests but should have at most {MOST}; look for what "
               "another paper has too, which belongs in common")
    if not any(name.startswith("tests/") for name in lines):
        yield f"tests/papers/test_{spec.paper}.py does not exist; test the paper's equations by value, and that the method learns"


def _placeholders(root: Path, spec: PaperSpec) -> Iterator[str]:
    for name in ("method.py", "params.yaml", "claims.yaml", "README.md"):
        path = root / "papers" / spec.paper / name
        if path.exists() and (left := len(PLACEHOLDER.findall(path.read_text(encoding="utf-8")))):
            yield f"papers/{spec.paper}/{name} has {left} placeholders of new-paper; replace them by the paper's own"


def _registered(root: Path, spec: PaperSpec) -> Iterator[str]:
    if spec.paper not in load_lab(root).papers:
        yield f"params.yaml: papers does not list {spec.paper}, so the pipeline leaves it out; add the word {spec.paper}"
