"""The site stands alone: it is made of results and documents, every link in it leads somewhere, nothing is fetched."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nbformat
import pytest
from matplotlib.figure import Figure
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from common.config import ConfigError, known_papers
from common.evaluate.publish import judge_all, write_claims
from common.report import pages, site
from common.report.notebooks import page
from common.report.published import section
from common.report.show import svg
from common.report.selfcontained import Page, broken, draw_formulas, foreign
from common.rows import COST_FIELDS
from tests.report.browser import browser, program

ROOT = Path(__file__).resolve().parents[2]

CLAIMS = """paper: toy
family: world_models
source: arXiv 0000.00001
looks: [4]
admission: [{id: headroom, says: old solves some, value: old/success, at_least: 0.1, claims: [D1.1c]}]
defaults: {metric: success, at_least: 0.0, confidence: 0.95, tolerance: 0.05, panels: [countdown-v1/test]}
claims:
  - {id: D1.1a, statement: "new beats old, a<b|c", better: new, worse: old, matched_on: none, why: a test}
  - {id: D1.1b, statement: other beats new, better: other, worse: new, matched_on: none, why: a test}
  - {id: D1.1c, statement: other beats old, better: other, worse: old, matched_on: none, why: a test}
"""
LEDGER = """# Ledger of discrepancies

## Another (arXiv 9999.99999)

| # | paper | here |
|---|---|---|
| Z1 | not to be seen | here |

## Toy (arXiv 0000.00001)

| # | paper | here |
|---|---|---|
| T1 | a quiet room | a loud one |
"""
README = """# The Toy

Nobody 2020, a paper.

## Our claims

<!-- claims/toy:begin -->
an old table
<!-- claims/toy:end -->

## Known limits

It is small. So $x_1 < 2$.
"""
METHOD = '''"""The Toy.

Differs from the paper:
 1. Smaller.
 2. Quicker, by
    far.

Seeds are streams.
"""
'''


def lab(root: Path, *, rows: bool = True) -> Path:
    """A tiny tree: a paper with results of three seeds, one without, and documents."""
    files = {"papers/toy/claims.yaml": CLAIMS, "papers/toy/README.md": README, "papers/toy/method.py": METHOD,
             "papers/toy/params.yaml": "notebook: notebooks/toys.py\n", "docs/discrepancies.md": LEDGER,
             "papers/later/claims.yaml": CLAIMS.replace("toy", "later").replace("00001", "00002"),
             "docs/metrics.md": "# Glossary\n\n`success` is good: [toy](../papers/toy/README.md).\n\n![growth](images/growth.png)\n",
             "docs/images/growth.png": "", "docs/images/unused.png": "", "CHANGELOG.md": "# Changelog\n",
             "notebooks/toys.py": "# %% [markdown]\n# # Toys: do they work?\n", "notebooks/90_report.py": "# %% [markdown]\n# # A report\n",
             "papers/index.csv": "id,title,arxiv,url,year,family,status,note\n"
                                 "toy,A Paper of Toys,0000.00001,https://arxiv.org/abs/0000.00001,2020,world_models,planned,\n"
                                 "far,A Far Paper,,https://arxiv.org/,2021,multi_agent,planned,not yet | later\n"}
    if rows:
        values = {"old": (0.2, 0.21, 0.19, 0.2), "new": (0.5, 0.52, 0.49, 0.5), "other": (0.1, 0.35, 0.2, 0.2)}
        one = {"paper": "toy", "env": "countdown-v1", "profile": "cpu", "scale": "nano", "panel": "countdown-v1/test", "metric": "success", "n": 10,
               "cost": dict.fromkeys(COST_FIELDS, 1)}
        files["results/toy/metrics.jsonl"] = "".join(json.dumps(one | {"variant": variant, "seed": seed, "value": value}) + "\n"
                                                     for variant, seeds in values.items() for seed, value in enumerate(seeds))
        files["results/toy/timing.json"] = json.dumps({"cpu": {"countdown-v1": {"minutes": 1.25, "disk_mb": 3.5, "units": 4}}})
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def notebook(path: Path, content: str = "") -> Path:
    figure = Figure()
    figure.subplots().plot([1, 2])
    outputs = [new_output("display_data", {"image/svg+xml": svg(figure)}),
               new_output("display_data", {"text/markdown": "| a | b |\n|---|---|\n| 1 | **2** |"})]
    if content:
        outputs.append(new_output("display_data", {"text/html": content}))
    cells = [new_markdown_cell("# A report\n\n[a link](https://arxiv.org/abs/2408.07199), $x_1$"),
             new_code_cell("secret_of_the_cell = 1", outputs=outputs)]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=cells), path)
    return path


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    root = lab(tmp_path_factory.mktemp("lab"))
    notebook(root / "runs/notebooks/90_report.ipynb")
    site.write_site(pages.read_lab(root, "cpu"), root / "site")
    return root / "site"


# -- pages ---------------------------------------------------------------------------------------------


def test_the_front_page_has_every_verdict_and_the_counts(tmp_path):
    made = pages.pages(pages.read_lab(lab(tmp_path), "cpu"))
    front = made["index.md"]
    assert "3 verdicts: **1 supported**, **1 contradicted**, **0 no effect**, **1 undecided**, **0 not testable here**." in front
    assert "| [The Toy](papers/toy.md) | nano | World models | 1 | 1 | 0 | 1 | 0 | 4 |" in front
    assert "| [later](papers/later.md) |  | World models | not recorded |" in front
    assert front.count("<tr data-family=") == 3 and "new beats old, a&lt;b|c" in front
    assert '<span class="verdict supported">▲ supported</span>' in front and 'data-value="0.3025">+0.302 [' in front
    assert '<option value="world_models">World models</option>' in front
    assert "## Admission checks" in front and "| [toy](papers/toy.md) | nano (`cpu`) | headroom: old solves some |" in front
    assert "how a verdict is made" not in front  # that document is not here


def test_verdicts_of_several_words_and_changed_rules_are_marked(tmp_path):
    root = lab(tmp_path)
    claims = root / "papers/toy/claims.yaml"
    write_claims(root / "results/claims", judge_all(root / "results", root / "papers"))
    claims.write_text(claims.read_text().replace("at_least: 0.1,", "at_least: 0.3,"))
    (root / "docs/verdicts.md").write_text("# How\n")
    made = pages.pages(pages.read_lab(root, "cpu"))
    assert '<span class="verdict not-testable-here">– not testable here</span> (headroom) <em>rule changed on ' in made["index.md"]
    assert "how a verdict is made](verdicts.md)" in made["index.md"] and made["verdicts.md"] == "# How\n"
    assert "not testable here</span> (headroom) *rule changed on " in made["papers/toy.md"] and "| **no** |" in made["papers/toy.md"]


def test_a_paper_s_page_has_its_parts_and_not_the_old_tables(tmp_path):
    text = pages.pages(pages.read_lab(lab(tmp_path), "cpu"))["papers/toy.md"]
    heads = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert heads == ["Claims and verdicts", "Figures", "Every variant", "Deviations from the paper", "Cost", "Compute it again",
                     "Known limits"]
    assert text.startswith("# The Toy\n\n[A Paper of Toys](https://arxiv.org/abs/0000.00001) · World models · `papers/toy/`\n")
    assert "an old table" not in text and "It is small." in text
    assert "1. Smaller.\n2. Quicker, by\n    far." in text and "Seeds are streams" not in text
    assert "a quiet room" in text and "not to be seen" not in text
    assert "| toy | cpu | countdown-v1 | 1.25 | 3.5 | 4 |" in text and "| `new` | 0.502 ± 0.020 |" in text
    assert "make repro PAPERS=toy\npython -m common explain toy/D1.1a@countdown-v1/test\npython -m common explain toy/new/success\n" in text
    assert text.count('<span class="verdict ') == 3


def test_another_model_on_the_same_panel_is_told_and_drawn_apart(tmp_path):
    nano = pages.pages(pages.read_lab(lab(tmp_path), "cpu"))
    own = tmp_path / "results/toy/metrics.jsonl"
    values = {"old": (0.9, 0.8), "new": (0.9, 0.91), "other": (0.9, 0.9)}
    one = json.loads(own.read_text(encoding="utf-8").splitlines()[0]) | {"profile": "smol", "scale": "Some-1B"}
    rows = [one | {"variant": variant, "seed": seed, "value": value, "cost": dict.fromkeys(COST_FIELDS, 7000)}
            for variant, some in values.items() for seed, value in enumerate(some)]  # fmt: skip

    def other(rows: list[dict]) -> dict[str, str]:
        own.with_name("metrics.countdown-v1.smol.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return pages.pages(pages.read_lab(tmp_path, "cpu"))

    both, single = other(rows), other([row for row in rows if row["seed"] == 0])
    for made, drawn in ((both, True), (single, False)):
        assert made["images/toy_ladder.svg"] == nano["images/toy_ladder.svg"] and made["images/toy_forest.svg"] == nano["images/toy_forest.svg"]
        assert ("images/toy_Some-1B_ladder.svg" in made) == drawn  # one seed has no interval to look at
        assert "| [The Toy](papers/toy.md) | nano | World models | 1 | 1 | 0 | 1 | 0 | 4 |" in made["index.md"]
        assert ("| [The Toy](papers/toy.md) | Some-1B | World models | 0 | 0 | 0 | 3 | 0 | 2 |" in made["index.md"]) == drawn  # one seed: a look
    text = both["papers/toy.md"]
    assert "What each variant spent, Some-1B scale" in text and text.count("| countdown-v1 | `new` | 4 | 1 |") == 1
    assert text.count("| countdown-v1 | `new` | 2 | 7,000 |") == 1
    assert ("python -m common run --paper toy --envs countdown-v1 --profile smol --seeds 0,1 --results "
            "results/toy/metrics.countdown-v1.smol.jsonl\n") in text and "explain toy/new/success\n" in text
    assert "The table of countdown-v1 (`cpu`) is" in text and "The table of countdown-v1 (`smol`) is" in text


def test_a_clone_in_which_nothing_was_run_has_a_site_too(tmp_path):
    root = lab(tmp_path, rows=False)
    site.write_site(pages.read_lab(root, "smoke"), root / "site")
    front = (root / "site/index.html").read_text(encoding="utf-8")
    assert "No claim has been judged yet" in front and "<tbody" in front and 'id="verdicts"' not in front
    page = (root / "site/notebooks/index.html").read_text(encoding="utf-8")
    assert "make report" in page and "make repro PAPERS=toy" in page
    assert "make repro PAPERS=toy PROFILE=smoke" in (root / "site/papers/toy.html").read_text(encoding="utf-8")


# -- the site ------------------------------------------------------------------------------------------


def test_every_link_of_the_site_leads_somewhere_and_nothing_is_loaded_from_outside(built):
    assert {"index.html", "papers/toy.html", "papers/later.html", "papers/index.html", "notebooks/index.html", "notebooks/90_report.html",
            "metrics.html", "discrepancies.html", "changelog.html"} == {
                path.relative_to(built).as_posix() for path in built.rglob("*.html")}  # fmt: skip
    assert broken(built) == []
    assert (built / "images/growth.png").exists() and not (built / "images/unused.png").exists()
    paper = Page((built / "papers/toy.html").read_text(encoding="utf-8"))
    assert "papers/toy.html" in Page((built / "metrics.html").read_text(encoding="utf-8")).links  # a README's page on the site
    assert "../images/toy_ladder.svg" in paper.loads and "../images/toy_forest.svg" in paper.loads
    for path in (*built.glob("*.css"), *built.glob("*.js")):
        assert "http" not in path.read_text(encoding="utf-8")


def test_a_paper_s_formulas_are_drawn_on_its_page(built):
    text = (built / "papers/toy.html").read_text(encoding="utf-8")
    assert "It is small. So <svg" in text and 'aria-label="x_1 &lt; 2"' in text and "$x_1" not in text


def test_the_link_check_can_fail(built, tmp_path):
    copy = shutil.copytree(built, tmp_path / "site")
    (copy / "bad.html").write_text('<a href="none.html">x</a><a href="metrics.html#none">y</a><img src="https://host/x.png">'
                                   '<script src="//host/x.js"></script><a href="https://arxiv.org">fine</a>')
    assert broken(copy) == [
        "bad.html would load https://host/x.png", "bad.html would load //host/x.js",
        "bad.html leads to none.html, which does not exist", "bad.html leads to metrics.html#none, which has no such heading"]


def test_the_same_inputs_give_the_same_bytes(built, tmp_path):
    root = lab(tmp_path)
    notebook(root / "runs/notebooks/90_report.ipynb")
    site.write_site(pages.read_lab(root, "cpu"), root / "site")
    first, second = ({path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
                     for folder in (built, root / "site"))
    assert first == second and not [name for name in first if "sitemap" in name.name]


@pytest.mark.parametrize("damage", ["a link in a document", "a page that loads", "an interruption"])
def test_a_build_that_fails_leaves_the_old_site_whole(tmp_path, monkeypatch, damage):
    root = lab(tmp_path, rows=False)
    (root / "site").mkdir()
    (root / "site/index.html").write_text("the old one")
    expected, message = ConfigError, "contains a link 'none.md'"
    if damage == "a link in a document":
        (root / "docs/metrics.md").write_text("# Glossary\n\n[x](none.md)\n")
    elif damage == "a page that loads":
        (root / "docs/metrics.md").write_text('# Glossary\n\n<img src="https://host/x.png">\n')
        message = "metrics.html would load https://host/x.png"
    else:
        def stop(folder):
            raise KeyboardInterrupt

        monkeypatch.setattr(site, "broken", stop)
        expected, message = KeyboardInterrupt, None
    with pytest.raises(expected, match=message):
        site.write_site(pages.read_lab(root, "cpu"), root / "site")
    assert [path.name for path in (root / "site").iterdir()] == ["index.html"]
    assert (root / "site/index.html").read_text() == "the old one" and list((root / "build").iterdir()) == []


# -- notebooks -----------------------------------------------------------------------------------------


def test_a_notebook_s_page_has_texts_tables_figures_and_code_unless_it_is_the_report(tmp_path):
    text = page(notebook(tmp_path / "n.ipynb"), "index.html")
    assert "<title>A report</title>" in text and "<strong>2</strong>" in text and "<td>1</td>" in text
    assert "data:image/svg+xml" in text and "secret_of_the_cell" in text and 'href="index.html"' in text
    assert foreign(text) == [] and 'href="https://arxiv.org' in text  # a link to follow is no resource
    link = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# N\n\n[story](tree_search_dpo.ipynb)")])
    nbformat.write(link, tmp_path / "linked.ipynb")
    assert 'href="index.html">story' in page(tmp_path / "linked.ipynb", "index.html")  # which of them were executed stands there
    assert "secret_of_the_cell" not in page(notebook(tmp_path / "90_report.ipynb"))
    told = nbformat.v4.new_code_cell("story.idea()", outputs=[nbformat.v4.new_output("display_data", {"text/markdown": "# N\n\nbecause $x_1 < 2$"})])
    nbformat.write(nbformat.v4.new_notebook(cells=[told]), tmp_path / "told.ipynb")
    said = page(tmp_path / "told.ipynb")
    assert "because <svg" in said and "$x_1" not in said  # formulas in what a cell says are drawn too


@pytest.mark.parametrize("paper", known_papers(ROOT))
def test_every_formula_of_a_paper_s_idea_can_be_drawn(paper):
    idea = section(ROOT / "papers" / paper / "README.md", "The idea")
    assert "<code>" not in draw_formulas(idea)


@pytest.mark.parametrize("content", [
    '<script>alert(1)</script>', '<img src="https://host/x.png">', '<link rel="stylesheet" href="x.css">', '<img srcset="x.png 2x">',
    "<style>@import 'x.css'</style>", "<div style='background:url(http://host/x)'></div>", "<iframe></iframe>", '<object data="x"></object>',
    '<b onclick="x()">b</b>', '<a href="javascript:x()">a</a>', '<svg><image href="https://host/x"/></svg>', '<svg><use xlink:href="x.svg#a"/></svg>',
    '<meta http-equiv="refresh" content="0;url=x">', '<form action="https://host"></form>', '<base href="https://host">',
])  # fmt: skip
def test_a_notebook_that_would_load_or_run_something_is_refused(tmp_path, content):
    with pytest.raises(ConfigError, match="n.ipynb: the page would load or run something .* must stand alone"):
        page(notebook(tmp_path / "n.ipynb", content))


def test_formulas_in_tables_and_shell_commands_of_a_document():
    text = draw_formulas("| $\\pi(a|s)$ | b |\n\n    $ git clone A\n    $ make repro\n")
    assert text.count("<svg") == 1 and text.splitlines()[0].count("|") == 3 and text.endswith("    $ git clone A\n    $ make repro\n")


def test_formulas_are_drawn_in_the_colour_of_the_text_and_code_is_left_alone():
    text = draw_formulas(r"`$a$` and $x_1 < 2$:" "\n\n" r"$$\frac12\Big(y\Big)$$" "\n\n```\n$b$\n```\nfor \\$5, $\\underbrace{a}_{b}$")
    assert text.startswith('`$a$` and <svg role="img" aria-label="x_1 &lt; 2"') and "\n```\n$b$\n```\nfor \\$5" in text
    assert text.count("<svg") == 2 and '<div class="formula"><svg' in text and "currentColor" in text and "#ffffff" not in text
    assert text.endswith(r"<code>\underbrace{a}_{b}</code>")


def test_the_notebooks_behind_published_rows_are_found_and_those_of_sweeps_are_not(lab_with_units):
    root, rows = lab_with_units
    from common.report.notebooks import executed

    assert [(one.name, one.seed) for one in executed(root, rows)] == [("toy-countdown-v1-seed0", 0), ("toy-countdown-v1-seed1", 1)]
    assert executed(root, []) == []


@pytest.fixture
def lab_with_units(tmp_path, monkeypatch):
    """Units of seeds 0 and 1 as published, and one of seed 1 with another value: a sweep's."""
    from common.report import notebooks
    from common.rows import read_metrics
    from common.track.store import UnitSpec

    rows = [row for row in read_metrics(lab(tmp_path) / "results/toy/metrics.jsonl") if row.seed < 2]
    stored = {"a": [row for row in rows if row.seed == 0], "b": [row for row in rows if row.seed == 1],
              "aa": [row for row in rows if row.seed == 1 and row.variant != "old"]}
    for key in stored:
        notebook(tmp_path / "runs/toy" / key / "notebook.ipynb")
        (tmp_path / "runs/toy" / key / "DONE").write_text("{}")
    monkeypatch.setattr(notebooks, "finished_rows", lambda path: stored[path.name])
    monkeypatch.setattr(notebooks, "read_unit", lambda path: UnitSpec("toy", "countdown-v1", stored[path.name][0].seed, "cpu", "{}", "r", {}, {}, "", ""))
    return tmp_path, rows


# -- in a browser --------------------------------------------------------------------------------------

SHOWN = "[...document.querySelectorAll('#verdicts tbody tr:not([hidden])')].map(row => row.cells[1].textContent.slice(0, 5))"


def test_a_reader_sorts_and_filters_from_the_disk_without_a_network(built):
    path = program()
    if path is None:
        pytest.skip("needs chromium or Google Chrome on the path, to click in the built site")
    with browser(path) as tab:
        tab.open(built / "index.html", width=390, height=844, scheme="dark")
        assert tab.value("document.body.dataset.mdColorScheme") == "slate"
        assert tab.value("document.documentElement.scrollWidth <= innerWidth")  # the table scrolls inside itself
        assert tab.value(SHOWN) == ["D1.1a", "D1.1b", "D1.1c"]
        tab.value("document.querySelectorAll('#verdicts th button')[4].focus()")
        for kind in ("keyDown", "keyUp"):
            tab.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r", windowsVirtualKeyCode=13)
        assert tab.value(SHOWN) == ["D1.1b", "D1.1c", "D1.1a"]
        assert tab.value("[...document.querySelectorAll('#verdicts th')].map(one => one.ariaSort)[4]") == "ascending"
        tab.value("document.querySelectorAll('#verdicts th button')[4].click()")
        assert tab.value(SHOWN) == ["D1.1a", "D1.1c", "D1.1b"]
        choose = "{const f = document.getElementById('filters').elements; f.%s.value = '%s'; f.%s.dispatchEvent(new Event('input', {bubbles: true}))}"
        tab.value(choose % ("verdict", "contradicted", "verdict"))
        assert tab.value(SHOWN) == ["D1.1b"]
        assert tab.value("document.getElementById('filters').elements.shown.value") == "1 of 3 verdicts"
        tab.value(choose % ("words", "beats old", "words"))
        assert tab.value(SHOWN) == []
        tab.value("document.querySelector('#filters [type=reset]').click()")
        tab.value("new Promise(done => setTimeout(done))")
        assert tab.value(SHOWN) == ["D1.1a", "D1.1b", "D1.1c"]
        for name in ("papers/toy.html", "notebooks/90_report.html", "metrics.html"):
            tab.open(built / name, width=390, height=844)
            assert tab.value("document.documentElement.scrollWidth <= innerWidth && innerWidth == 390"), name
        assert tab.complaints() == []
        assert [url for url in tab.requested() if not url.startswith(("file:", "data:", "about:"))] == []


def test_the_script_is_short_and_of_no_framework():
    text = (site.THEME / "verdicts.js").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 80 and "import" not in text
