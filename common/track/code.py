"""What code a unit can reach, and a hash of it that ignores comments and docstrings."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from common.config.strict import ConfigError

PACKAGES = ("common", "papers")
"""Imports are followed inside these packages; everything else is pinned by the environment lock."""


@dataclass(frozen=True)
class CodeHash:
    """``files`` are paths relative to the root, with ``/``, sorted: the DVC deps must cover them."""

    digest: str
    files: tuple[str, ...]


def code_hash(entries: Iterable[Path | str], root: Path) -> CodeHash:
    """Hash the entry files (notebook ``.py``, ``method.py``) and every module they can import statically.

    ``entries`` are paths relative to ``root`` or absolute. Followed are ``import a.b``, ``from a import b``
    (a module or a name), relative imports, imports inside functions and under TYPE_CHECKING, and the
    ``__init__.py`` of every package on the way; ``x.c`` beside a followed ``x.py`` counts too. Modules named
    only by a computed text are not seen: pass them as entries. Comments, docstrings and layout do not matter
    in Python; file names do. Raises ConfigError for a missing entry, a file that does not parse, or an import
    of a module that does not exist.
    """
    root = root.resolve()
    queue: list[str] = []
    for entry in entries:
        path = (root / entry).resolve()
        if not path.is_file() or not path.is_relative_to(root):
            raise ConfigError(f"code: the entry {entry} is not a file of this project; correct the path")
        queue += [*_package_files(path.relative_to(root).parent.parts, root), path.relative_to(root).as_posix()]
    digests: dict[str, str] = {}
    while queue:
        name = queue.pop()
        if name not in digests:
            digests[name], imports = _parse(name, root)
            queue += _imported_files(imports, name, root)
            source = Path(name).with_suffix(".c")
            if (root / source).is_file():
                digests[source.as_posix()] = hashlib.sha256((root / source).read_bytes()).hexdigest()
    total = hashlib.sha256("".join(f"{name}\0{digests[name]}\n" for name in sorted(digests)).encode())
    return CodeHash(digest=total.hexdigest(), files=tuple(sorted(digests)))


def _parse(name: str, root: Path) -> tuple[str, tuple[ast.Import | ast.ImportFrom, ...]]:
    """Hash of a file without comments and docstrings, and its imports."""
    try:
        return _read((root / name).read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        message = getattr(error, "msg", error)
        raise ConfigError(f"{name} line {line}: not valid Python ({message}); correct it") from None


@lru_cache(maxsize=1024)  # papers and environments reach mostly the same files
def _read(text: str) -> tuple[str, tuple[ast.Import | ast.ImportFrom, ...]]:
    tree = ast.parse(text)
    imports = tuple(node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom)))
    return hashlib.sha256(ast.dump(_Strip().visit(tree)).encode()).hexdigest(), imports


class _Strip(ast.NodeTransformer):
    """Removes every bare string statement: docstrings and the attribute docs under dataclass fields."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node


def _imported_files(imports: Iterable[ast.Import | ast.ImportFrom], name: str, root: Path) -> list[str]:
    found: list[str] = []
    for node in imports:
        if isinstance(node, ast.Import):
            modules = [tuple(alias.name.split(".")) for alias in node.names]
            optional: list[tuple[str, ...]] = []
        else:
            base = _base(node, name)
            modules, optional = [base], [(*base, alias.name) for alias in node.names]
        for module in modules:
            if module and module[0] in PACKAGES:
                files = _module_files(module, root)
                if files is None:
                    raise ConfigError(f"{name} line {node.lineno}: imports {'.'.join(module)}, which does not exist; "
                                      "correct the import")
                found += files
        for module in optional:  # a submodule, or a name defined in the module found above
            if module[0] in PACKAGES:
                found += _module_files(module, root) or []
    return found


def _base(node: ast.ImportFrom, name: str) -> tuple[str, ...]:
    written = tuple(node.module.split(".")) if node.module else ()
    if node.level == 0:
        return written
    package = Path(name).parent.parts
    return (*package[: len(package) - node.level + 1], *written)


def _module_files(module: tuple[str, ...], root: Path) -> list[str] | None:
    """The module's file and the ``__init__`` files above it; None when there is no such module."""
    path = root.joinpath(*module)
    if path.is_dir():
        return _package_files(module, root)
    if path.with_name(path.name + ".py").is_file():
        return [*_package_files(module[:-1], root), "/".join(module) + ".py"]
    return None


def _package_files(package: tuple[str, ...], root: Path) -> list[str]:
    if not package or package[0] not in PACKAGES:
        return []
    files = ["/".join((*package[: depth + 1], "__init__.py")) for depth in range(len(package))]
    return [file for file in files if (root / file).is_file()]
