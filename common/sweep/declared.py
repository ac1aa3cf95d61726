"""What a paper's method file declares, read without importing it: parameters are checked before torch is loaded."""

from __future__ import annotations

import ast
import dataclasses
from functools import lru_cache
from pathlib import Path
from typing import Any

from common.config import ConfigError, PaperSpec


def params_class(root: Path, spec: PaperSpec) -> type:
    """The ``Params`` dataclass of the paper's method file, without importing that file.

    Only the statements that ``Params`` needs (its nested dataclasses, constants and their imports)
    are executed. Raises ConfigError when the file is missing, does not parse, or defines no ``Params`` dataclass.
    """
    try:
        text = (root / spec.method).read_text(encoding="utf-8")
    except OSError:
        raise ConfigError(f"{spec.paper}: the method file {spec.method} does not exist; "
                          f"correct method in papers/{spec.paper}/params.yaml") from None
    return _class(text, spec.method, spec.paper)


@lru_cache(maxsize=256)  # every unit of a plan asks
def _class(text: str, file: str, paper: str) -> type:
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise ConfigError(f"{file} line {error.lineno}: not valid Python ({error.msg}); correct it") from None
    bound = {name: node for node in tree.body for name in _bindings(node)}
    if not isinstance(bound.get("Params"), ast.ClassDef):
        raise ConfigError(f"{file} defines no class Params; add a frozen dataclass of that name")
    wanted, queue = set(), ["Params"]
    while queue:
        node = bound.get(queue.pop())
        if node is not None and node not in wanted:
            wanted.add(node)
            queue += _used(node)
    namespace: dict[str, Any] = {"__name__": f"{paper}.params"}
    body = [node for node in tree.body if node in wanted]
    code = compile(ast.Module(body=body, type_ignores=[]), file, "exec", dont_inherit=True)
    try:
        exec(code, namespace)  # statements of our own source file
    except Exception as error:
        raise ConfigError(f"{file}: the class Params cannot be built ({error}); define what it uses above it, "
                          "at top level") from None
    cls = namespace["Params"]
    if not (dataclasses.is_dataclass(cls) and cls.__dataclass_params__.frozen):
        raise ConfigError(f"{file}: Params is not a frozen dataclass; write @dataclass(frozen=True) above it")
    return cls


def _used(node: ast.stmt) -> list[str]:
    """Names that a statement reads. A field ``sft: TrainSettings`` sets its name and uses no function ``sft``."""
    return [one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)]


def _bindings(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
        return [node.name]
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return [(alias.asname or alias.name).split(".")[0] for alias in node.names]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return [node.target.id] if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else []
