"""The strict check of the parameters cell, and values that papermill's own command line would mangle."""

from __future__ import annotations

import nbformat
import pytest

from common.config import ConfigError
from common.sweep.notebook import check_notebook, code_cells, declared_parameters, parameters_cell, write_ipynb

GOOD = {"paper": "toy", "env": "toy-v1", "seed": 0, "profile": "cpu", "overrides": {}, "train": True}


def edited(lab, old: str, new: str):
    path = lab / "notebooks/toy.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


def test_cells_are_counted_as_in_the_notebook():
    text = '# %% [markdown]\n# Title\n# %% tags=["parameters", "x"]\na = 1\n# %%\nb = 2\n'
    cells = code_cells(text, "n.py")
    assert [(cell.number, cell.line, cell.tags, cell.source) for cell in cells] == [
        (2, 4, ("parameters", "x"), "a = 1"), (3, 6, (), "b = 2")]


def test_a_good_notebook_passes_and_declares_its_types(lab):
    path = lab / "notebooks/toy.py"
    check_notebook(path, GOOD, "notebooks/toy.py")
    assert declared_parameters(parameters_cell(path, "n"), "n") == {
        "paper": str, "env": str, "seed": int, "profile": str, "overrides": dict, "train": bool}


@pytest.mark.parametrize(("old", "new", "message"), [
    ('tags=["parameters"]', "", 'has 0 cells tagged "parameters" but must have exactly one'),
    ("# %%\nfrom papers", '# %% tags=["parameters"]\nfrom papers', "has 2 cells tagged"),
    ("seed: int", "sede: int", 'unknown parameter "seed", not assigned in the parameters cell; did you mean "sede"?'),
    ("seed: int = 0", 'seed: str = "0"', "the parameter seed is 0 (int) but the parameters cell declares str"),
    ("seed: int = 0", "seed = 1 == 1", "the default of seed is 1 == 1 but must be a literal"),
    ("seed: int = 0", "import os", "must hold only plain assignments"),
    ("seed: int = 0", "seed: int = = 0", "not valid Python"),
    ('tags=["parameters"]', "tags=[parameters]", "are not a JSON list"),
])
def test_a_wrong_notebook_stops_with_one_sentence(lab, old, new, message):
    with pytest.raises(ConfigError) as error:
        check_notebook(edited(lab, old, new), GOOD, "notebooks/toy.py")
    assert message in str(error.value) and str(error.value).startswith("notebooks/toy.py")


def test_a_bool_is_no_int_but_an_int_is_a_float(lab):
    with pytest.raises(ConfigError, match="seed is True"):
        check_notebook(lab / "notebooks/toy.py", {"seed": True}, "notebooks/toy.py")
    check_notebook(edited(lab, "seed: int = 0", "seed: float = 0.0"), {"seed": 1}, "notebooks/toy.py")


def test_an_absent_notebook_is_named(lab):
    with pytest.raises(ConfigError, match="notebooks/nowhere.py cannot be read"):
        check_notebook(lab / "notebooks/nowhere.py", GOOD, "notebooks/nowhere.py")


def test_values_reach_the_kernel_unchanged(lab, tmp_path):
    """``papermill -p`` makes inf of "1e10234" and an object of "None"; the in-process way must not."""
    import papermill

    values = {"lr": 1e-5, "sha": "1e10234", "month": "2024_05", "none": "None", "nothing": None, "yes": True,
              "big": 10**20, "quote": "a'b\"c\\n{x}\n", "nested": {"a": [1, 2.5, None], "b": {"c": "é"}}}
    target = tmp_path / "out.ipynb"
    write_ipynb(lab / "notebooks/toy.py", target)
    prepared = papermill.execute_notebook(str(target), str(target), parameters={"overrides": values}, prepare_only=True)
    injected = [cell for cell in prepared.cells if "injected-parameters" in cell.metadata.get("tags", [])]
    namespace: dict = {}
    exec(injected[0].source, namespace)  # the cell that papermill wrote from our own values
    assert namespace["overrides"] == values
    assert [type(v) for v in namespace["overrides"].values()] == [type(v) for v in values.values()]


def test_the_written_notebook_has_the_source_cells_and_no_outputs(lab, tmp_path):
    write_ipynb(lab / "notebooks/toy.py", tmp_path / "n.ipynb")
    notebook = nbformat.read(tmp_path / "n.ipynb", 4)
    assert [cell.cell_type for cell in notebook.cells] == ["markdown", "code", "code", "code", "code"]
    assert notebook.cells[1].metadata.tags == ["parameters"]
    assert notebook.metadata.kernelspec.name == "python3"
