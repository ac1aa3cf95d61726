"""The figure shows what it says, the page is whole, escaped and self-contained."""

import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from matplotlib.colors import to_rgba

from common.search.draw import COLOURS, best_path, draw_tree, tree_html
from common.search.mcts import MCTSSettings, search
from common.search.tree import ROOT, Tree

from .toy import Scripted, ToyEnv, toy_task

SETTINGS = MCTSSettings(simulations=60, branching=5, c=1.5, alpha=0.5, gamma=0.9, max_depth=4)


@pytest.fixture(scope="module")
def tree() -> Tree:
    return search(ToyEnv(), [(toy_task(0), None)], Scripted(), SETTINGS, keys=[3])[0]


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_best_path_follows_visits(tree):
    path = best_path(tree)
    assert path[0] == ROOT and len(path) > 2
    for up, down in zip(path, path[1:]):
        assert tree.nodes[down].visits == max(tree.nodes[c].visits for c in tree.nodes[up].children)


def test_figure_has_every_node_with_its_colour(tree):
    figure = draw_tree(tree, max_nodes=1000)
    dots = [c for c in figure.axes[0].collections if len(c.get_offsets()) == 1]
    assert len(dots) == len(tree.nodes) and len(texts(figure)) == 2 * len(tree.nodes) - 1
    for i, dot in enumerate(dots[1:], start=1):
        colour = COLOURS(tree.q(i)) if tree.nodes[i].stepped else to_rgba("white")
        assert tuple(dot.get_facecolor()[0]) == pytest.approx(colour, abs=0.01)
    thick = [line for line in figure.axes[0].lines if line.get_linewidth() > 2]
    assert len(thick) == len(best_path(tree)) - 1


def test_figure_of_a_large_tree_is_cut_and_says_so(tree, tmp_path):
    figure = draw_tree(tree, max_nodes=8)
    assert len(texts(figure)) == 2 * 8 - 1
    assert f"8 most visited of {len(tree.nodes)} nodes" in figure.axes[0].get_title(loc="left")
    figure.savefig(tmp_path / "tree.png")
    assert (tmp_path / "tree.png").stat().st_size > 5000


def test_figure_of_an_empty_tree_and_of_odd_texts(tmp_path):
    bare = Tree("bare", "e", 0, {"gamma": 0.9, "alpha": 0.5})
    bare.nodes[ROOT].observation = ""
    draw_tree(bare).savefig(tmp_path / "bare.png")
    bare.add_child(ROOT, action="pay $5 or $6 \\frac{ and\nmuch more than fits here" * 3, visits=1, value_sum=0.4)
    draw_tree(bare).savefig(tmp_path / "odd.png")


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.count, self.tags = 0, 0, set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.open += tag == "details"
        self.count += tag == "details"
        assert not {"src", "href"} & {name for name, _ in attrs}

    def handle_endtag(self, tag):
        self.open -= tag == "details"


def test_page_is_whole_and_self_contained(tree):
    page, text = Page(), tree_html(tree)
    page.feed(text)
    assert page.count == len(tree.nodes) and page.open == 0
    assert not page.tags & {"script", "link", "img", "iframe"} and "http" not in text and "url(" not in text
    assert text.count("<details open") == len(best_path(tree))
    assert tree_html(tree) == text


def test_page_escapes_model_text(tree):
    evil = Tree("<b>task</b>", "e", 0, {"gamma": 0.9, "alpha": 0.5, "note": "<i>"})
    evil.nodes[ROOT].observation = ""
    evil.nodes[ROOT].prompt = ({"role": "user", "content": "</pre><script>alert(1)</script>"},)
    evil.add_child(ROOT, action="<script>alert(2)</script>", observation="<img src=x onerror=alert(3)>")
    text = tree_html(evil)
    assert not re.search(r"<(script|img|b|i)\b", text) and "&lt;script&gt;alert(2)" in text


def test_search_room_needs_no_torch():
    code = "import sys, common.search.mcts, common.search.rollout, common.search.draw; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
