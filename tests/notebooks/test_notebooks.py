"""Notebooks: the .ipynb that people open is in step with its .py source, small, and without outputs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jupytext
import nbformat
import pytest

from common.config import known_papers
from common.evaluate.claims import FAMILIES
from common.report import gallery
from common.report.published import section

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "notebooks").glob("*.py"))
CONFIG = jupytext.config.load_jupytext_configuration_file(str(ROOT / "jupytext.toml"))


def read(path: Path):
    return jupytext.read(path, fmt="py:percent", config=CONFIG)


def content(notebook) -> list[tuple]:
    return [(cell.cell_type, cell.source, tuple(cell.metadata.get("tags", ()))) for cell in notebook.cells]


def test_there_are_the_tour_the_report_and_one_notebook_for_each_family():
    assert {path.stem for path in SOURCES} == {"00_tour", "90_report", *FAMILIES}


@pytest.mark.parametrize("paper", known_papers(ROOT))
def test_a_paper_s_readme_brings_what_the_notebook_shows_of_it(paper):
    readme = ROOT / "papers" / paper / "README.md"
    assert all(section(readme, title) for title in ("The idea", "What the paper reports"))
    [arxiv] = re.findall(r"arXiv:(\d+\.\d+)", (ROOT / f"papers/{paper}/params.yaml").read_text(encoding="utf-8").splitlines()[0])
    assert arxiv in readme.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FAMILIES)
def test_no_cell_names_a_paper(name):
    """But for the default of the parameter, and an example in a text."""
    for cell in read(ROOT / "notebooks" / f"{name}.py").cells:
        if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", ()):
            assert not [paper for paper in known_papers(ROOT) if re.search(rf"\b{paper}\b", cell.source)], cell.source


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_notebook_people_open_is_in_step_and_holds_no_outputs(source):
    opened = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    again = f"make it again: python -m jupytext --set-kernel python3 --to ipynb notebooks/{source.name}"
    assert content(opened) == content(read(source)), again
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in opened.cells), again


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_running_and_saving_it_leaves_the_source_as_it_is(source):
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    for number, cell in enumerate(cell for cell in notebook.cells if cell.cell_type == "code"):
        cell.execution_count = number + 1
        cell.outputs = [nbformat.v4.new_output("stream", text="42\n")]
        cell.metadata["execution"] = {"iopub.status.idle": "now"}
    notebook.metadata["kernelspec"] = {"name": "other", "display_name": "Another", "language": "python"}
    assert jupytext.writes(notebook, fmt="py:percent", config=CONFIG) == source.read_text(encoding="utf-8")


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_it_is_small_enough_to_be_read(source):
    cells = read(source).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    assert cells[0].source.startswith("# ") and len(cells) <= 26
    assert max(len(text.splitlines()) for text in code) <= 16
    assert not any(line.startswith(("def ", "class ")) for text in code for line in text.splitlines())
    marked = sum("parameters" in cell.metadata.get("tags", ()) for cell in cells)
    assert marked == 1


# -- executed copies -----------------------------------------------------------------------------------------------

GALLERY = ("00_tour", *FAMILIES)


@pytest.mark.parametrize("name", GALLERY)
def test_the_gallery_s_copy_is_of_this_notebook_and_reads_like_a_page(name):
    path = ROOT / gallery.FOLDER / f"{name}.ipynb"
    copy, text = nbformat.read(path, as_version=4), path.read_text(encoding="utf-8")
    cells = [cell for cell in copy.cells if "injected-parameters" not in cell.metadata.get("tags", ())]
    again = "make it again: python -m common gallery"
    for cell in cells:
        for link, moved in gallery.ELSEWHERE.items():
            cell.source = cell.source.replace(moved, link)
    assert content(copy.__class__(cells=cells)) == content(read(ROOT / "notebooks" / f"{name}.py")), again
    assert path.stat().st_size <= gallery.MOST_BYTES and str(ROOT) not in text and not re.search(r"/(?:home|root|tmp|work)/", text), again
    outputs = [output for cell in copy.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs) and not any(output.output_type == "error" for output in outputs)
    assert not any(output.get("name") == "stderr" for output in outputs) and "metadata.papermill" not in text and '"start_time"' not in text


@pytest.mark.parametrize("name", FAMILIES)
def test_the_gallery_shows_numbers_that_are_published(name):
    """The ladder's picture cannot be read by a test, the table of its means can."""
    paper = gallery.shown(ROOT)[name]
    text = (ROOT / gallery.FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    summary = json.loads((ROOT / "results" / paper / "summary.json").read_text(encoding="utf-8"))
    means = [value for variants in summary.values() for value in variants.values()]
    assert paper in text and means
    missing = [value for value in means if f"{value:.3f}" not in text and f"{value:.2f}" not in text]
    assert len(missing) < len(means) / 2, f"{missing} of results/{paper}/summary.json are not in the copy; make it again: python -m common gallery"


def test_outputs_are_kept_and_what_changes_from_run_to_run_is_not(tmp_path):
    cell = nbformat.v4.new_code_cell("1 + 1", execution_count=7, metadata={"execution": {"iopub": "now"}, "tags": ["x"]})
    cell.outputs = [nbformat.v4.new_output("stream", name="stderr", text="warning"), nbformat.v4.new_output("stream", text="in /machine/lab/runs\n"),
                    nbformat.v4.new_output("display_data", data={"image/png": "AAAA", "text/plain": "<Figure at 0x1>"})]  # fmt: skip
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"papermill": {"start_time": "now"}, "kernelspec": {"name": "python3", "display_name": "P"}})
    nbformat.write(notebook, tmp_path / "one.ipynb")
    text = gallery.readable(tmp_path / "one.ipynb", {"/machine/lab/": ""})
    made = nbformat.reads(text, as_version=4)
    assert [output.get("text") or sorted(output.data) for output in made.cells[0].outputs] == ["in runs\n", ["image/png"]]
    assert made.cells[0].execution_count is None and set(made.metadata) == {"kernelspec"} and made.cells[0].metadata == {"tags": ["x"]}
    assert text == gallery.readable(tmp_path / "one.ipynb", {"/machine/lab/": ""})
