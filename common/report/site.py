"""The site: verdicts, papers, notebooks and documents as static pages that open from a disk and fetch nothing.

MkDocs with the Material theme, because it turns the Markdown that this project already writes into pages that work on
a phone and by keyboard, without a server, and refuses to build while a link leads nowhere. The same inputs give the
same bytes.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from common.config import ConfigError
from common.files import storage, write_atomic
from common.report import notebooks, pages
from common.report.notebooks import THEME
from common.report.selfcontained import broken, draw_formulas

NOTEBOOK = "notebooks/90_report.py"
NOT_OURS = ("404.html", "sitemap.xml", "sitemap.xml.gz")
"""What MkDocs adds for a server: addresses from its root, and the date of the build."""


def build_site(root: Path, out: Path, *, profile: str) -> Path:
    """Execute the report notebook at ``profile`` (in a process of its own, by papermill) and write the folder ``out``.

    Returns the front page. Raises NotebookFailed (a ConfigError) when a cell fails, ConfigError when a page would load
    something from elsewhere or a link leads nowhere: ``out`` then stays as it was, as after an interruption.
    """
    from common.sweep.documents import render

    render(root, root / NOTEBOOK, None, {"profile": profile})
    write_site(pages.read_lab(root, profile), out)
    return out / "index.html"


def write_site(lab: pages.SiteData, out: Path) -> None:
    """Write the folder ``out`` from what ``lab`` has, all or nothing. Raises as ``build_site``."""
    made = pages.pages(lab)
    work = lab.root / "build"
    with storage(work):
        work.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="site-", dir=work) as folder:
            docs, site = Path(folder, "docs"), Path(folder, "site")
            for name, text in made.items():
                write_atomic(docs / name, draw_formulas(text) if name.endswith(".md") else text)
            (docs / "images").mkdir(exist_ok=True)
            for path in (lab.root / "docs/images").glob("*.png"):
                if f"images/{path.name}" in "".join(made[page] for page in pages.DOCUMENTS if page in made):
                    shutil.copy(path, docs / "images" / path.name)
            for name in ("site.css", "verdicts.js"):
                shutil.copy(THEME / name, docs / name)
            for one in lab.notebooks:
                write_atomic(docs / f"notebooks/{one.name}.html", notebooks.page(one.path, "index.html"))
            mkdocs(docs, site, pages.navigation(lab, made))
            wrong = broken(site)
            if wrong:
                more = f" (and {len(wrong) - 1} more)" if wrong[1:] else ""
                raise ConfigError(f"the site was not written: {wrong[0]}{more}; mend the document, or the page that "
                                  "common/report/pages.py makes")
            _put_in_place(site, out, Path(folder, "before"))


def mkdocs(docs: Path, site: Path, nav: list[Any]) -> None:
    """``mkdocs build --strict`` of ``docs`` into ``site``. ConfigError with the first warning when there is any."""
    os.environ.setdefault("NO_MKDOCS_2_WARNING", "1")  # an advertisement of another generator, not about this build
    from mkdocs.commands.build import build
    from mkdocs.config import load_config
    from mkdocs.exceptions import MkDocsException

    warnings = _Warnings()
    logger = logging.getLogger("mkdocs")
    logger.addHandler(warnings)
    try:
        config = load_config(str(THEME / "mkdocs.yml"), docs_dir=str(docs.resolve()),
                             site_dir=str(site.resolve()), nav=nav, strict=True)
        config.plugins.on_startup(command="build", dirty=False)
        build(config)
        config.plugins.on_shutdown()
    except MkDocsException as error:
        first = (warnings.messages or [str(error)])[0]
        raise ConfigError(f"the site was not written: {first}; mend that page's source") from None
    finally:
        logger.removeHandler(warnings)
    for name in NOT_OURS:
        (site / name).unlink(missing_ok=True)


class _Warnings(logging.Handler):
    """Collects warnings and errors instead of printing them."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def _put_in_place(new: Path, out: Path, aside: Path) -> None:
    """Let ``new`` become ``out`` by renaming; what was there before goes ``aside``, and comes back if that fails."""
    if out.exists():
        os.replace(out, aside)
    try:
        os.replace(new, out)
    except BaseException:
        if aside.exists():
            os.replace(aside, out)
        raise
