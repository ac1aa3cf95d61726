"""A unit's notebook: its source (``py:percent``), the strict check of its parameters cell, its execution, its failures.

Papermill only warns about an unknown parameter or a missing parameters cell and then runs with the defaults
(nteract/papermill#667, #701); here both stop before anything starts. The check reads the source by itself, because importing
jupytext takes longer than the second in which a typo must be reported.
"""

from __future__ import annotations

import ast
import errno
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.config.resolve import flat
from common.config.strict import ConfigError, hint
from common.sweep.ends import WANT_OF_MEMORY, how_it_ended, oom_kills

if TYPE_CHECKING:
    from common.sweep.workers import Job, Outcome

_MARKER = re.compile(r"#\s*%%(?!%)(?P<header>.*)")
_TAGS = re.compile(r"tags=(\[[^\]]*\])")
_TYPES = {"str": str, "int": int, "float": float, "bool": bool, "dict": dict, "list": list}
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

STARTS = 3
"""Kernels that start at the same moment can pick the same port; the loser ends before a cell was run ("Kernel died before
replying"), and is started again, up to so many starts in all."""

OUT_OF_MEMORY = {
    r"CUDA out of memory|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED": "out of memory on the GPU",
    r"DefaultCPUAllocator: can't allocate memory|MemoryError": "out of memory on the processor",
    WANT_OF_MEMORY: "out of memory: the system killed the process for want of it",
}
"""What is in the errors of units that ran out of memory; the last is of processes that the system ended (:mod:`common.sweep.ends`)."""

GIB = 2**30


@dataclass(frozen=True)
class Cell:
    """One code cell: ``number`` counts all cells of the notebook from 1, ``line`` its first source line."""

    number: int
    line: int
    tags: tuple[str, ...]
    source: str


def code_cells(text: str, where: str) -> list[Cell]:
    """The code cells of a percent script. ConfigError when a tag list is not valid JSON."""
    cells: list[Cell] = []
    number, current = 0, None
    for line_number, line in enumerate(text.splitlines(), start=1):
        code = _MARKER.match(line)
        if code:
            number += 1
            header = code["header"]
            tags = _TAGS.search(header)
            try:
                names = tuple(json.loads(tags[1])) if tags else ()
            except ValueError:
                raise ConfigError(f'{where} line {line_number}: the tags {tags[1]} are not a JSON list; write '
                                  'tags=["parameters"]') from None
            current = None if "[markdown]" in header or "[raw]" in header else []
            if current is not None:
                cells.append((number, line_number + 1, names, current))
        elif current is not None:
            current.append(line)
    return [Cell(number, line, tags, "\n".join(body)) for number, line, tags, body in cells]


def parameters_cell(path: Path, where: str) -> Cell:
    """The one cell tagged ``parameters``. ConfigError when there is none, more than one, or no such file."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{where} cannot be read ({error.strerror}); create it or correct notebook in the paper's "
                          "params.yaml") from None
    tagged = [cell for cell in code_cells(text, where) if "parameters" in cell.tags]
    if len(tagged) != 1:
        raise ConfigError(f'{where} has {len(tagged)} cells tagged "parameters" but must have exactly one; begin that '
                          'cell with: # %% tags=["parameters"]')
    return tagged[0]


def declared_parameters(cell: Cell, where: str) -> dict[str, type]:
    """Names assigned in the parameters cell and their types (annotation, else type of the literal default)."""
    try:
        body = ast.parse(cell.source).body
    except SyntaxError as error:
        raise ConfigError(f"{where} cell {cell.number}: not valid Python ({error.msg}, line "
                          f"{cell.line - 1 + (error.lineno or 1)}); correct it") from None
    types: dict[str, type] = {}
    for node in body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            name, written = node.target.id, ast.unparse(node.annotation).split("[")[0]
        elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            name, written = node.targets[0].id, ""
        else:
            raise ConfigError(f"{where} cell {cell.number} line {cell.line - 1 + node.lineno}: the parameters cell "
                              "must hold only plain assignments such as seed: int = 0; move the rest to another cell")
        try:
            default = ast.literal_eval(node.value)
        except ValueError:
            raise ConfigError(f"{where} cell {cell.number}: the default of {name} is {ast.unparse(node.value)} but "
                              "must be a literal; write the value itself") from None
        types[name] = _TYPES.get(written, type(default))
    return types


def check_notebook(path: Path, parameters: Mapping[str, Any], where: str) -> None:
    """Raise ConfigError unless the notebook declares every name of ``parameters`` with the type of its value.

    ``where`` names the notebook in the error. An int is accepted for a float.
    """
    types = declared_parameters(parameters_cell(path, where), where)
    for name, value in parameters.items():
        if name not in types:
            raise ConfigError(f'{where}: unknown parameter "{name}", not assigned in the parameters cell; '
                              f"{hint(name, types)}")
        expected = types[name]
        if type(value) is not expected and not (expected is float and type(value) is int):
            raise ConfigError(f"{where}: the parameter {name} is {value!r} ({type(value).__name__}) but the parameters "
                              f"cell declares {expected.__name__}; pass that type")


def write_ipynb(source: Path, target: Path) -> None:
    """Write the source as a notebook file for the ``python3`` kernel, without outputs."""
    import jupytext
    import nbformat

    notebook = jupytext.read(source, fmt="py:percent")
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata["language_info"] = {"name": "python"}
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, target)


def run_job(job: Job) -> Outcome:
    """Execute the notebook with cwd = root. Never raises for a failing notebook or a dying kernel."""
    from common.sweep.workers import KernelManager, Outcome
    from papermill.exceptions import PapermillExecutionError

    kills, KernelManager.code = oom_kills(), None
    try:
        _execute(job)
        return Outcome(ok=True, notebook=job.executed)
    except PapermillExecutionError as error:
        # Papermill put its parameters into a cell of its own behind the tagged one; count as the source does.
        behind = job.parameters and error.cell_index >= parameters_cell(Path(job.notebook), job.notebook).number
        cell = error.cell_index + (0 if behind else 1)
        text, lines = f"{error.ename}: {error.evalue}", _ANSI.sub("", "\n".join(error.traceback)).splitlines()
        return Outcome(ok=False, notebook=_keep(job), cell=cell, error=told_memory(job, text), tail="\n".join(lines[-20:]))
    except Exception as error:  # a dead kernel, a full disk: one failed unit, not a failed sweep
        text = f"{type(error).__name__}: {error}"
        if type(error).__name__ == "DeadKernelError":
            text = f"the notebook's kernel {how_it_ended(KernelManager.code, kills, oom_kills())}"
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            text = (f"run store: the disk below {Path(job.executed).parent} is full but a unit needs room for its "
                    "notebook and models; free some space, then the same command goes on")
        lines = _ANSI.sub("", told_memory(job, text)).splitlines()
        return Outcome(ok=False, notebook=_keep(job), error=lines[0], tail="\n".join(lines[-20:]))


def _execute(job: Job) -> None:
    import papermill

    from common.sweep.workers import KernelManager

    for left in reversed(range(STARTS)):
        try:
            # A file, not a NotebookNode: papermill would store the whole node in the output as its "input_path".
            write_ipynb(Path(job.notebook), Path(job.executed))
            # The kernel is killed when its last cell is done: all it made is in files by then, and a kind end takes longer.
            papermill.execute_notebook(
                job.executed, job.executed, parameters=job.parameters, cwd=job.root, kernel_name="python3",
                progress_bar=False, kernel_manager_class=KernelManager, shutdown_kernel="immediate")
            return
        except RuntimeError as error:  # a failing cell is no RuntimeError here, whatever it raised
            if "Kernel died before replying" not in str(error) or not left:
                raise


def _keep(job: Job) -> str:
    """Move the failed notebook to where no rerun overwrites it; "" when not even a first cell was written."""
    if not Path(job.executed).exists():
        return ""
    Path(job.failed).parent.mkdir(parents=True, exist_ok=True)
    shutil.move(job.executed, job.failed)
    return job.failed


def told_memory(job: Job, error: str) -> str:
    """``error``, or the sentence of :func:`out_of_memory` where it says that memory ran out."""
    try:
        params = json.loads(Path(job.executed).with_name("config.resolved.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        params = {}
    return out_of_memory(error, params) or error


def out_of_memory(error: str, params: Mapping[str, Any]) -> str | None:
    """A sentence on ``error``, "type: message", of a unit that ran out of memory: what was asked for, what there is and what to
    try. None where it is another error. ``params`` are the unit's resolved parameters, sections nested."""
    what = next((text for pattern, text in OUT_OF_MEMORY.items() if re.search(pattern, error)), None)
    if what is None:
        return None
    numbers = []
    if match := re.search(r"(?:[Tt]ried to|Unable to) allocate ([\d.]+) (\w+)", error):
        amount, unit = match.groups()
        numbers.append(f"{f'{int(amount) / GIB:.2f} GiB' if unit == 'bytes' else f'{amount} {unit}'} more were asked for")
    if "GPU" not in what:
        import psutil

        memory = psutil.virtual_memory()
        numbers.append(f"{memory.available / GIB:.2f} of {memory.total / GIB:.2f} GiB are free now")
    elif match := re.search(r"total capacity of ([\d.]+ \w+) of which ([\d.]+ \w+) is free", error):
        numbers.append(f"{match[2]} of {match[1]} were free")
    sizes = [f"{name} ({value})" for name, value in flat(params).items() if re.search(r"batch$|answer_tokens$", name)]
    tries = [f"halve {' or '.join(sizes)}"] if sizes else []
    if params.get("lora_rank") == 0 and params.get("model") != "nano":
        tries.append("train adapters (lora_rank 32)")
    known = f" ({', '.join(numbers)})" if numbers else ""
    return (f"{what}{known}; "
            f"{' or '.join(tries) + ', which makes another unit, or ' if tries else ''}make room, for instance by "
            "fewer --workers, and run the same command, which goes on after the last finished stage")
