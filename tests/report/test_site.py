"""The report page stands alone: figures inside, nothing fetched, nothing run."""

from __future__ import annotations

import nbformat
import pytest
from matplotlib.figure import Figure
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from common.config import ConfigError
from common.report.show import svg
from common.report.site import FOREIGN, page


def notebook(path, html: str = ""):
    figure = Figure()
    figure.subplots().plot([1, 2])
    outputs = [new_output("display_data", {"image/svg+xml": svg(figure)}),
               new_output("display_data", {"text/markdown": "| a | b |\n|---|---|\n| 1 | **2** |"})]
    if html:
        outputs.append(new_output("display_data", {"text/html": html}))
    cells = [new_markdown_cell("# A report\n\n[a link](https://arxiv.org/abs/2408.07199)"),
             new_code_cell("secret_of_the_cell = 1", outputs=outputs)]
    nbformat.write(new_notebook(cells=cells), path)
    return path


def test_the_page_has_texts_tables_and_figures_but_no_code(tmp_path):
    text = page(notebook(tmp_path / "n.ipynb"))
    assert "<title>A report</title>" in text and "<strong>2</strong>" in text and "<td>1</td>" in text
    assert "<svg" in text or "data:image/svg+xml" in text
    assert "secret_of_the_cell" not in text
    assert not FOREIGN.search(text) and 'href="https://arxiv.org' in text  # a link to follow is no resource


@pytest.mark.parametrize("html", [
    '<script>alert(1)</script>', '<img src="https://host/x.png">', '<link rel="stylesheet" href="x.css">',
    "<style>@import 'x.css'</style>", "<div style='background:url(http://host/x)'></div>", "<iframe></iframe>",
])  # fmt: skip
def test_a_page_that_would_load_something_is_refused(tmp_path, html):
    with pytest.raises(ConfigError, match="a report must stand alone"):
        page(notebook(tmp_path / "n.ipynb", html))
