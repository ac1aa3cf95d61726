"""A search tree for the eye: a matplotlib figure, and one self-contained HTML page."""

from __future__ import annotations

from html import escape

from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure

from common.search.tree import ROOT, Tree, best_child

COLOURS = colormaps["cividis"]  # made for readers with and without colour-vision deficiency
GREY = "#d9d9d9"


def best_path(tree: Tree) -> list[int]:
    """Node ids from the root along the most visited children (``steps.final_choice``), as far as executed."""
    path = [ROOT]
    while (child := best_child(tree, node=path[-1])) is not None and tree.nodes[child].stepped:
        path.append(child)
    return path


def draw_tree(tree: Tree, *, max_nodes: int = 60, width: float = 10.0) -> Figure:
    """The tree from left (root) to right, one leaf a row, ``width`` inches wide.

    Above each edge its action (shortened to the room there is), below it Q and visits. Colour: mixed
    Q (grey where undefined; at the root the state value); size: visits; squares: finished episodes;
    hollow: proposed but never executed; thick line and bold label: the most visited path. Of a
    larger tree the ``max_nodes`` most visited nodes are shown (their ancestors always are among
    them), and the title says so.
    """
    order = sorted(range(len(tree.nodes)), key=lambda i: (-tree.nodes[i].visits, i))
    shown = set(order[:max_nodes])
    rows, depth = _rows(tree, shown), max(tree.nodes[i].depth for i in shown)
    letters = max(8, int(12 * width / (depth + 0.65)))  # 7 pt text runs about 15 letters an inch
    figure = Figure(figsize=(width, max(2.5, 0.36 * (max(rows.values()) + 1) + 1.0)), layout="constrained")
    axes = figure.add_subplot()
    best, peak = set(best_path(tree)), max(node.visits for node in tree.nodes) or 1
    scale = ScalarMappable(Normalize(0.0, 1.0), COLOURS)
    for i in sorted(shown):
        node, x, y, q = tree.nodes[i], tree.nodes[i].depth, rows[i], _value(tree, i)
        weight = "bold" if i in best else "normal"
        facts = [] if q is None else [f"{'V' if i == ROOT else 'Q'} {q:.2f}"]
        facts += [f"n {node.visits}"] if node.visits else []
        if i != ROOT:
            style = {"color": "black", "lw": 2.2} if i in best else {"color": "#b0b0b0", "lw": 0.8}
            axes.plot([x - 1, x - 0.77, x], [rows[node.parent], y, y], zorder=1, **style)
        text = {"textcoords": "offset points", "fontsize": 7, "weight": weight}
        if i == ROOT:
            axes.annotate("\n".join(facts), (x, y), (-11, 0), ha="right", va="center", color="#555555", **text)
        else:
            axes.annotate(_label(node.action, letters), (x - 0.74, y), (0, 2), **text)
            axes.annotate("  ".join(facts), (x - 0.74, y), (0, -8), color="#555555", **text)
        colour = GREY if q is None else scale.to_rgba(q)
        look = {"marker": "s" if node.done else "o", "s": 30 + 150 * node.visits / peak, "lw": 1.4, "zorder": 2}
        axes.scatter([x], [y], c=[colour if node.stepped else "white"], edgecolors=[colour], **look)
    axes.set_xlim(-0.45, depth + 0.2)
    axes.set_ylim(max(rows.values()) + 0.8, -1.0)
    axes.set_yticks([])
    axes.set_xticks(range(depth + 1))
    axes.set_xlabel("environment steps from the root")
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    figure.colorbar(scale, ax=axes, label="Q of the action", shrink=0.6, aspect=30, pad=0.01)
    axes.set_title(_plain(_title(tree, len(shown))), fontsize=9, loc="left")
    return figure


def _value(tree: Tree, i: int) -> float | None:
    """Mixed Q of the edge into a node; for the root its state value W / N / γ."""
    if i != ROOT:
        return tree.q(i)
    mean = tree.nodes[ROOT].q_tree
    return None if mean is None else mean / tree.gamma


def _label(action: str, letters: int) -> str:
    text = " ".join(action.split())
    return _plain(text if len(text) <= letters else text[: letters - 1] + "…")


def _plain(text: str) -> str:
    """Keep matplotlib from reading dollar signs (prices!) as formulas."""
    return text.replace("$", r"\$")


def _title(tree: Tree, shown: int) -> str:
    part = f"{shown} most visited of {len(tree.nodes)} nodes" if shown < len(tree.nodes) else f"{shown} nodes"
    return f"{tree.task_id}: {part}, {tree.nodes[ROOT].visits} simulations, {tree.cost.env_steps} environment steps"


def _rows(tree: Tree, shown: set[int]) -> dict[int, float]:
    """Row of each shown node: leaves count 0, 1, 2 … top to bottom, a parent sits at its children's mean."""
    rows: dict[int, float] = {}
    for i in _depth_first(tree):
        if i in shown and not any(child in shown for child in tree.nodes[i].children):
            rows[i] = float(len(rows))
    for i in sorted(shown - rows.keys(), reverse=True):  # children have larger ids than parents
        below = [rows[child] for child in tree.nodes[i].children if child in shown]
        rows[i] = sum(below) / len(below)
    return rows


def _depth_first(tree: Tree) -> list[int]:
    order, stack = [], [ROOT]
    while stack:
        order.append(stack.pop())
        stack += reversed(tree.nodes[order[-1]].children)
    return order


STYLE = """body{font:14px/1.45 system-ui,sans-serif;margin:1.5em;max-width:70em}h1{font-size:1.2em}
details{margin-left:1.3em;border-left:1px solid #ccc;padding-left:.5em}summary{cursor:pointer;padding:1px 0}
pre{white-space:pre-wrap;background:#f6f6f6;padding:.5em;margin:.3em 0;font-size:12px}
.q{display:inline-block;width:.9em;height:.9em;border:1px solid #888;vertical-align:-1px}
.best>summary{font-weight:600}.idle{color:#777}.num{color:#555;font-size:12px;font-weight:400}"""


def tree_html(tree: Tree) -> str:
    """The whole tree as one HTML page without scripts or outside resources; every text is escaped.

    Each node unfolds to what the environment answered (the root to its prompt) and to its children in
    the order they were sampled; the most visited path is open and bold.
    """
    best, pieces, stack = set(best_path(tree)), [], [(ROOT, False)]
    while stack:  # a loop, since a deep tree would exhaust recursion
        i, closing = stack.pop()
        if closing:
            pieces.append("</details>\n")
            continue
        node, kind = tree.nodes[i], "best" if i in best else "idle" if not tree.nodes[i].stepped else "node"
        state = " open" if i in best else ""
        pieces.append(f'<details{state} class="{kind}"><summary>{_summary(tree, i)}</summary>\n')
        if i == ROOT:
            text = "\n\n".join(f"[{message['role']}]\n{message['content']}" for message in node.prompt)
            pieces.append(f"<pre>{escape(text)}</pre>\n")
        elif node.stepped:
            pieces.append(f"<pre>{escape(node.observation or '')}</pre>\n")
        stack.append((i, True))
        stack += [(child, False) for child in reversed(node.children)]
    title = escape(_title(tree, len(tree.nodes)))
    settings = escape(", ".join(f"{name} = {value}" for name, value in sorted(tree.settings.items())))
    head = f'<head><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style></head>'
    body = f'<body><h1>{title}</h1>\n<p class="num">{settings}</p>\n{"".join(pieces)}</body>'
    return f'<!doctype html>\n<html lang="en">{head}\n{body}</html>\n'


def _summary(tree: Tree, i: int) -> str:
    node, q = tree.nodes[i], _value(tree, i)
    colour = GREY if q is None else to_hex(COLOURS(q))
    facts = [f"n {node.visits}"]
    facts += [f"{'V' if i == ROOT else 'Q'} {q:.3f}"] if q is not None else []
    facts += [f"Q̃ {node.q_tree:.3f}"] if node.q_tree is not None and i != ROOT else []
    facts += [f"Q̂ {node.q_hat:.3f}"] if node.q_hat is not None else []
    facts += [f"log π {node.logprob:.2f}"] if i != ROOT else []
    facts += [f"reward {node.reward:.3f}"] if node.terminated else ["cut by a limit"] if node.truncated else []
    facts += [] if node.stepped else ["not executed"]
    label = escape(node.action if i != ROOT else tree.task_id)
    return f'<span class="q" style="background:{colour}"></span> {label} <span class="num">{", ".join(facts)}</span>'
