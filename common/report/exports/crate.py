"""RO-Crate: a paper's results, data panels and model cards as one self-describing folder.

    python -m common export agent_q --out agent_q.crate

    ro-crate-metadata.json     everything below, by whom, under which licence, by which command of which version
    results/                   metric rows, this paper's verdicts, minutes
    paper/                     README.md, method.py, params.yaml, claims.yaml
    figures/                   the pictures drawn from the rows
    data/<env>/                the panels, their manifest, croissant.json
    models/<env>.md            the card of the paper's own variant

Made from what git tracks and the panels of ``make data``: no run store is needed. The same commit and files give the
same bytes; dates are the commit's.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from common.config import ConfigError, load_yaml
from common.evaluate.claims import load_claims
from common.evaluate.publish import claims_text, read_claims
from common.evaluate.tables import NANO
from common.files import folder_atomic
from common.lm.bases import has_base
from common.report.exports.cards import method_variant, model_card
from common.report.exports.croissant import croissant
from common.rows import MetricRow, read_metrics
from common.sweep.plan import USER_ENVS
from common.track.provenance import provenance

PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
"""RO-Crate's profile of "this command made these files"."""

LICENSES = "https://spdx.org/licenses/"


def export(root: Path, paper: str, out: Path) -> Path:
    """Write the crate of a ``paper`` with published results to ``out``, whole or not at all; returns ``out``.

    ConfigError when ``out`` exists, when nothing is published, when panels are absent, outside git, or when a results
    file was never committed.
    """
    if out.exists():
        raise ConfigError(f"--out {out} exists and an export never overwrites; remove it or name another folder")
    tables = sorted((root / "results" / paper).glob("metrics*.jsonl"))
    if not tables:
        raise ConfigError(f"no results of {paper} are published, so there is nothing to export; "
                          f"run: python -m common run --paper {paper}")
    when, commit = _committed(root, tables)
    cited = load_yaml(root / "CITATION.cff", "CITATION.cff")
    rows = [row for table in tables for row in read_metrics(table)]
    with folder_atomic(out.absolute()) as folder:
        _copy(root, paper, folder, rows, cited, when)
        _describe(folder, paper, load_claims(root / "papers" / paper / "claims.yaml").source, cited, when, commit,
                  profiles=sorted({row.profile for row in rows}))  # fmt: skip
    return out


def _committed(root: Path, files: Iterable[Path]) -> tuple[datetime, str]:
    """Date of the last commit of ``files``, and the commit of the code, with a note where there are uncommitted changes."""
    names = [file.relative_to(root).as_posix() for file in files]
    command = ["git", "-C", str(root), "log", "-1", "--format=%cI", "--", *names]
    date = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    if not date:
        raise ConfigError(f"{names[0]} is in no commit, so an export could not say which code made it; "
                          "commit the results first")
    source = provenance(root)
    return datetime.fromisoformat(date), source.commit + (" with uncommitted changes" if source.dirty else "")


def _copy(root: Path, paper: str, folder: Path, rows: list[MetricRow], cited: dict[str, Any], when: datetime) -> None:
    """Copy or write all files of the crate but ``ro-crate-metadata.json``."""
    def take(source: Path, target: str) -> None:
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / target)

    for source in sorted((root / "results" / paper).iterdir()):
        take(source, f"results/{source.name}")
    mine = read_claims(root / "results" / "claims", paper)
    (folder / "results" / "claims.json").write_text(claims_text(mine), encoding="utf-8")
    for name in ("README.md", "method.py", "params.yaml", "claims.yaml"):
        if (root / "papers" / paper / name).exists():
            take(root / "papers" / paper / name, f"paper/{name}")
    for source in sorted((root / "docs" / "images").glob(f"{paper}_*.png")):
        take(source, f"figures/{source.name}")
    for name in ("LICENSE", "CITATION.cff", "requirements.lock", "params.yaml"):
        take(root / name, name)
    for env in dict.fromkeys(row.env for row in rows if row.env not in USER_ENVS):
        panels = root / "data" / env
        if not (panels / "manifest.json").exists():
            raise ConfigError(f"data panels: data/{env} is absent but an export carries the panels of its results; "
                              "run: make data")  # fmt: skip
        for source in sorted(panels.iterdir()):
            take(source, f"data/{env}/{source.name}")
        described = croissant(folder / "data" / env, license=LICENSES + cited["license"], cite=cited["title"],
                              version=env.rpartition("v")[2] + ".0.0", published=when)
        (folder / "data" / env / "croissant.json").write_text(json.dumps(described, indent=1, sort_keys=True) + "\n")
        trained = [row for row in rows if row.scale == NANO]
        variant = method_variant(root, paper, trained)
        if has_base(env) and any((row.env, row.variant) == (env, variant) for row in trained):
            (folder / "models").mkdir(exist_ok=True)
            card = model_card(root, trained, variant=variant, env=env, license=cited["license"])
            (folder / "models" / f"{env}.md").write_text(card, encoding="utf-8")


def _describe(folder: Path, paper: str, source: str, cited: dict[str, Any], when: datetime, commit: str, *,
              profiles: list[str]) -> None:  # fmt: skip
    """``ro-crate-metadata.json`` of what lies in ``folder``."""
    from rocrate.model.contextentity import ContextEntity
    from rocrate.rocrate import ROCrate

    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    crate = ROCrate()
    crate.name = f"{paper}: a replication of {source}"
    crate.description = f"Metric rows, verdicts, figures, data panels and model cards of {cited['title']}"
    crate.datePublished = when
    license = crate.add(ContextEntity(crate, LICENSES + cited["license"], {
        "@type": "CreativeWork", "name": cited["license"]}))  # fmt: skip
    crate.license = license
    crate.keywords = ", ".join(cited.get("keywords", ()))
    crate.creator = [crate.add(ContextEntity(crate, "#" + re.sub(r"\W+", "-", _name(one)), {
        "@type": "Person" if "family-names" in one else "Organization", "name": _name(one)}))
        for one in cited["authors"]]  # fmt: skip
    crate.root_dataset["conformsTo"] = crate.add(ContextEntity(crate, PROFILE, {
        "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}))  # fmt: skip
    known = {name: crate.add_file(folder / name, name, properties=_facts(name)) for name in files}
    software = crate.add(ContextEntity(crate, "#software", {
        "@type": "SoftwareApplication", "name": cited["title"], "version": cited["version"],
        "softwareVersion": f"commit {commit}", "license": {"@id": license.id}}))  # fmt: skip
    inputs = [entity for name, entity in known.items() if name.startswith("data/") or name in (
        "paper/method.py", "paper/params.yaml", "paper/claims.yaml", "params.yaml", "requirements.lock")]  # fmt: skip
    made = [entity for name, entity in known.items() if name.startswith(("results/", "figures/"))]
    command = f"python -m common run --paper {paper}" + (f" --profile {profiles[0]}" if len(profiles) == 1 else "")
    crate.add_action(software, identifier="#run", object=inputs, result=made, properties={
        "name": command, "endTime": when.isoformat(),
        "description": "Trains and evaluates every variant for every seed, judges the claims, and draws the figures"})
    metadata = crate.metadata.generate()
    metadata["@graph"] = sorted(metadata["@graph"], key=lambda entity: entity["@id"])
    text = json.dumps(metadata, indent=1, sort_keys=True) + "\n"
    (folder / "ro-crate-metadata.json").write_text(text, encoding="utf-8")


def _name(author: dict[str, str]) -> str:
    return author.get("name") or " ".join(author[part] for part in ("given-names", "family-names") if part in author)


def _facts(name: str) -> dict[str, Any]:
    """Description and media type of a file in the crate, as far as they are known."""
    descriptions = {
        "results/metrics.jsonl": "one metric of one variant, seed and panel a line, with what it cost",
        "results/claims.json": "each claim with effect, simultaneous interval and verdict, and the admission checks",
        "paper/claims.yaml": "what the paper says, written as comparisons before the results",
        "paper/method.py": "the replicated method, to be read from top to bottom",
    }  # fmt: skip
    kinds = {"jsonl": "application/jsonlines", "json": "application/json", "md": "text/markdown",
             "yaml": "application/yaml", "png": "image/png", "py": "text/x-python"}  # fmt: skip
    kind = kinds.get(name.rpartition(".")[2])
    return ({"description": descriptions[name]} if name in descriptions else {}) | ({"encodingFormat": kind} if kind else {})
