"""Pages of what a unit kept: everything recorded is in them, escaped, and nothing comes from elsewhere."""

import json
import re

from common.report import unit_pages
from common.report.selfcontained import foreign

EVIL = "<script>alert(1)</script>"


def pair(q, chosen="buy"):
    return {"prompt": [{"role": "user", "content": f"page {q} {EVIL}"}], "chosen": chosen, "rejected": EVIL,
            "q_chosen": q, "q_rejected": 0.25, "ref_chosen": -1.0, "ref_rejected": -2.0, "path": f"t#{q}"}


def branch(i, parent, text, value, task="t/0"):
    return {"task": task, "branch": i, "parent": parent, "depth": 0, "text": text, "value": value, "prompt": "1 2"}


def test_pairs_stand_side_by_side_the_widest_first():
    page = unit_pages.pairs_page("pairs.r1", [pair(0.5), pair(1.0)])
    assert page.index("t#1.0") < page.index("t#0.5") and "2 preference pairs" in page
    assert "chosen: Q 1.000, log π_ref -1.000" in page and "rejected: Q 0.250, log π_ref -2.000" in page
    assert EVIL not in page and not foreign(page)


def test_an_expansion_unfolds_as_it_was_sampled():
    page = unit_pages.expansions_page("trees", [branch(0, -1, "1 + 2", 0.75), branch(1, 0, "wrong", 0.5),
                                           branch(2, 0, EVIL, 1.0), branch(0, -1, "2", 0.0, task="t/1")])
    assert re.search(r"<code>1 \+ 2</code>.*?</summary><details.*?<code>wrong</code>.*?</details><details", page, re.S)
    assert "V 0.750" in page and "2 expansions" in page
    assert page.count("<details") == page.count("</details>") == 6 and EVIL not in page


def test_a_decision_shows_every_option_and_what_was_taken():
    page = unit_pages.decisions_page("decisions.x", [
        {"prompt": "goal\npage", "step": 2, "chosen": 1, "options": ["a", "b"], "scores": [0.0, 0.5],
         "paths": [[["a", "seen"]], [["b", EVIL]]]}])
    assert "step 3: goal" in page and "<code>b</code> <span class='num'>score 0.500 ✓ taken" in page
    assert page.count("✓") == 1 and EVIL not in page


def test_only_what_was_kept_becomes_a_page(tmp_path):
    assert unit_pages.artifact_pages(tmp_path) == {} and unit_pages.notebook_figures(tmp_path / "notebook.ipynb") == {}
    (tmp_path / "pairs.r1.jsonl").write_text("")
    (tmp_path / "pairs.r2.jsonl").write_text(json.dumps(pair(1.0)) + "\n")
    (tmp_path / "rollouts.x.jsonl").write_text("{}\n")
    assert list(unit_pages.artifact_pages(tmp_path)) == ["pairs.r2.html"]


def test_figures_are_the_notebook_s_in_order(tmp_path):
    other = [{"data": {"text/plain": "x"}}, {"name": "stdout"}]
    shown = [{"outputs": [{"data": {"image/svg+xml": ["<svg>", f"{i}</svg>"]}}, *other]}
             for i in range(2)]
    (tmp_path / "n.ipynb").write_text(json.dumps({"cells": [{"source": "text"}, *shown]}))
    assert unit_pages.notebook_figures(tmp_path / "n.ipynb") == {"figure01.svg": "<svg>0</svg>", "figure02.svg": "<svg>1</svg>"}
