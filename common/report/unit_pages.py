"""HTML pages of a finished unit's artifacts for MLflow: preference pairs side by side, expansions and decisions as trees.

Pages have neither scripts nor outside resources, and every recorded text is escaped. Agent Q's search trees are such
pages already (``common.search.draw``), written by the unit itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

MOST = 100
"""Pairs, trees or decisions on one page; the file beside it has all that were recorded."""

STYLE = """body{font:14px/1.45 system-ui,sans-serif;margin:1.5em;max-width:70em}h1{font-size:1.2em}
details{margin-left:1.3em;border-left:1px solid #ccc;padding-left:.5em}summary{cursor:pointer;padding:1px 0}
pre,code{white-space:pre-wrap}pre{background:#f6f6f6;padding:.5em;margin:.3em 0;font-size:12px}
.best>summary{font-weight:600}.num{color:#555;font-size:12px;font-weight:400}
table{border-collapse:collapse;width:100%}td{border:1px solid #ccc;padding:.35em .6em;vertical-align:top}
.good{border-left:4px solid #2a6fbb}.bad{border-left:4px solid #c0392b}"""

Rows = Sequence[Mapping[str, Any]]


def draw_unit(path: Path) -> dict[str, dict[str, str]]:
    """What MLflow shows of the unit in the run folder ``path``: HTML files of ``pages``, SVG files of ``figures``."""
    return {"pages": artifact_pages(path / "artifacts"), "figures": notebook_figures(path / "notebook.ipynb")}


def artifact_pages(artifacts: Path) -> dict[str, str]:
    """File name → page, of all pairs, expansions and decisions below ``artifacts``; empty when the unit recorded none."""
    kinds = {"pairs.*.jsonl": pairs_page, "trees.jsonl": expansions_page, "decisions.*.jsonl": decisions_page}
    made = {}
    for pattern, draw in kinds.items():
        for path in sorted(artifacts.glob(pattern)):
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            if rows:
                made[f"{path.stem}.html"] = draw(path.stem, rows)
    return made


def notebook_figures(notebook: Path) -> dict[str, str]:
    """File name → SVG, of the figures that an executed notebook shows, in its order; empty without a notebook."""
    cells = json.loads(notebook.read_text(encoding="utf-8")).get("cells", []) if notebook.exists() else []
    images = [output["data"]["image/svg+xml"] for cell in cells for output in cell.get("outputs", [])
              if "image/svg+xml" in output.get("data", {})]  # fmt: skip
    return {f"figure{i:02}.svg": "".join(text) for i, text in enumerate(images, start=1)}


def pairs_page(title: str, pairs: Rows) -> str:
    """Preference pairs (fields of ``common.types.PreferencePair``), the widest difference of values first: the prompt,
    and below it the chosen action beside the rejected one, each with its Q and the reference policy's
    log-probability."""
    ordered = sorted(pairs, key=lambda pair: _number(pair, "q_rejected") - _number(pair, "q_chosen"))
    body = []
    for pair in ordered[:MOST]:
        prompt = "\n\n".join(message["content"] for message in pair["prompt"])
        cells = "".join(
            f'<td class="{kind}"><code>{escape(pair[side])}</code><br><span class="num">{side}: '
            f"{_facts({'Q': pair.get(f'q_{side}'), 'log π_ref': pair.get(f'ref_{side}')})}</span></td>"
            for side, kind in (("chosen", "good"), ("rejected", "bad"))
        )  # fmt: skip
        body.append(f"<details open><summary>{escape(str(pair.get('path') or pair.get('task_id', '')))}</summary>"
                    f"<pre>{escape(prompt)}</pre><table><tr>{cells}</tr></table></details>")  # fmt: skip
    return _page(f"{title}: {_some(len(pairs), 'preference pair')}", body)


def expansions_page(title: str, branches: Rows) -> str:
    """Expansions of tasks as trees that unfold, each utterance with its value V. A row is a branch: task, branch, parent
    (-1 at the top), text, prompt and value."""
    trees: dict[str, list[Mapping[str, Any]]] = {}
    for branch in branches:
        trees.setdefault(branch["task"], []).append(branch)
    body = []
    for task, found in list(trees.items())[:MOST]:
        children: dict[int, list[Mapping[str, Any]]] = {}
        for branch in found:
            children.setdefault(branch["parent"], []).append(branch)
        body.append(f"<details><summary>{escape(task)} <span class='num'>{len(found)} utterances</span></summary>"
                    f"<pre>{escape(found[0]['prompt'])}</pre>{_unfold(children, -1)}</details>")  # fmt: skip
    return _page(f"{title}: {_some(len(trees), 'expansion')}", body)


def _unfold(children: Mapping[int, Rows], parent: int) -> str:
    """As deep as there are roles, so recursion is safe."""
    made = []
    for branch in children.get(parent, ()):
        below = _unfold(children, branch["branch"])
        head = f"<code>{escape(branch['text'])}</code> <span class='num'>V {branch['value']:.3f}</span>"
        side = "good" if branch["value"] > 0.5 else "bad"
        made.append(f"<details open class='{side}'><summary>{head}</summary>{below}</details>")
    return "".join(made)


def decisions_page(title: str, decisions: Rows) -> str:
    """Look-ahead decisions: the page shown, and each action considered, its score and the pages imagined after it."""
    body = []
    for one in decisions[:MOST]:
        options = []
        for k, (action, score, path) in enumerate(zip(one["options"], one["scores"], one["paths"], strict=True)):
            kind, mark = ("best", " ✓ taken") if k == one["chosen"] else ("node", "")
            steps = "".join(f"<p><code>{escape(done)}</code></p><pre>{escape(seen)}</pre>" for done, seen in path)
            options.append(f"<details class='{kind}'><summary><code>{escape(action)}</code> <span class='num'>"
                           f"{_facts({'score': score})}{mark}</span></summary>{steps}</details>")  # fmt: skip
        first = one["prompt"].splitlines()[0] if one["prompt"] else ""
        body.append(f"<details><summary>step {one['step'] + 1}: {escape(first)}</summary>"
                    f"<pre>{escape(one['prompt'])}</pre>{''.join(options)}</details>")  # fmt: skip
    return _page(f"{title}: {_some(len(decisions), 'decision')}", body)


def _some(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}" + (f", the first {MOST} shown" if n > MOST else "")


def _number(row: Mapping[str, Any], name: str) -> float:
    return row.get(name) or 0.0


def _facts(values: Mapping[str, float | None]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in values.items() if value is not None)


def _page(title: str, body: Sequence[str]) -> str:
    head = f'<head><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style></head>'
    return (f'<!doctype html>\n<html lang="en">{head}\n<body><h1>{escape(title)}</h1>\n' + "\n".join(body)
            + "\n</body></html>\n")  # fmt: skip
