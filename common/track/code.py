"""The code that a unit can reach by imports, and a hash of it that ignores comments and docstrings."""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from common.config.strict import ConfigError
from common.files import StoreError, write_atomic

PACKAGES = ("common", "papers")
"""Imports are followed inside these packages; everything else is pinned by the environment lock."""

REMEMBERED = 5_000
"""Most files of which it is remembered what was read."""

SHORT = 16
"""Characters of a hash that stands in a key or in a file that people read: 64 bits."""


@dataclass(frozen=True)
class CodeHash:
    """``files`` are paths relative to the root, with ``/``, sorted: the DVC deps must cover them."""

    digest: str
    files: tuple[str, ...]


class Modules:
    """The project's modules, each read and parsed once; whoever edits files makes another one afterwards."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._files: dict[str, tuple[str, tuple[str, ...]]] = {}
        self._memory = ParseCache()

    def reached(self, entries: Iterable[Path | str], *, outside: tuple[str, ...] = ()) -> dict[str, str]:
        """Every file that the entry files can reach → its hash, by name; see :func:`code_hash` for the rules.

        ``outside``: beginnings of file names, such as ``common/track/``, that are neither listed nor followed.
        """
        queue: list[str] = []
        for entry in entries:
            path = (self.root / entry).resolve()
            if not path.is_file() or not path.is_relative_to(self.root):
                raise ConfigError(f"code: the entry {entry} is not a file of this project; correct the path")
            name = path.relative_to(self.root)
            queue += [*_package_files(name.parent.parts, self.root), name.as_posix()]
        files: dict[str, str] = {}
        while queue:
            name = queue.pop()
            if name in files or name.startswith(outside):
                continue
            files[name], following = self._file(name)
            queue += following
        self._memory.save()
        return dict(sorted(files.items()))

    def hash(self, entries: Iterable[Path | str], *, outside: tuple[str, ...] = ()) -> CodeHash:
        """:func:`code_hash` over the files of :meth:`reached`."""
        files = self.reached(entries, outside=outside)
        return CodeHash(digest_of(files), tuple(files))

    def _file(self, name: str) -> tuple[str, tuple[str, ...]]:
        """Hash of a file and the files that it leads to."""
        if name not in self._files:
            if name.endswith(".c"):
                self._files[name] = hashlib.sha256((self.root / name).read_bytes()).hexdigest(), ()
            else:
                digest, imports = _parse(name, self.root, self._memory)
                beside = Path(name).with_suffix(".c")
                following = _imported_files(imports, name, self.root)
                following += [beside.as_posix()] if (self.root / beside).is_file() else []
                self._files[name] = digest, tuple(dict.fromkeys(following))
        return self._files[name]


def digest_of(files: Mapping[str, str]) -> str:
    """One hash of files and their hashes, in the order of their names."""
    return hashlib.sha256("".join(f"{name}\0{files[name]}\n" for name in sorted(files)).encode()).hexdigest()


def code_hash(entries: Iterable[Path | str], root: Path) -> CodeHash:
    """Hash the entry files (notebook ``.py``, ``method.py``) and every module they can import statically.

    ``entries`` are paths relative to ``root`` or absolute. Followed are ``import a.b``, ``from a import b``
    (a module or a name), relative imports, imports inside functions and under TYPE_CHECKING, and the
    ``__init__.py`` of every package on the way; ``x.c`` beside a followed ``x.py`` counts too. Modules named
    only by a computed text are not seen: pass them as entries. Comments, docstrings and layout do not matter
    in Python; file names do. Raises ConfigError for a missing entry, a file that does not parse, or an import
    of a module that does not exist.
    """
    return Modules(root).hash(entries)


class Imported(NamedTuple):
    """``import module`` or ``from module import names``, ``level`` dots before it, on ``line``."""

    level: int
    module: str
    names: tuple[str, ...]
    line: int


def _parse(name: str, root: Path, memory: ParseCache) -> tuple[str, tuple[Imported, ...]]:
    """Hash of a file without comments and docstrings, and its imports."""
    text = (root / name).read_text(encoding="utf-8")
    known = memory.get(text)
    if known is None:
        try:
            known = _read(text)
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None)
            message = getattr(error, "msg", error)
            raise ConfigError(f"{name} line {line}: not valid Python ({message}); correct it") from None
        memory.put(text, known)
    return known


def _read(text: str) -> tuple[str, tuple[Imported, ...]]:
    tree, imports = ast.parse(text), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [Imported(0, alias.name, (), node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imports.append(Imported(node.level, node.module or "", tuple(alias.name for alias in node.names), node.lineno))
    return hashlib.sha256(ast.dump(_Strip().visit(tree)).encode()).hexdigest(), tuple(imports)


EMPTY = hashlib.sha256(ast.dump(ast.parse("")).encode()).hexdigest()
"""Hash of a file without a statement, that has only docstrings and comments."""


class ParseCache:
    """Cache of parsed files by the hash of their text, since parsing the project takes a second. Kept beside Python's own compiled files,
    where these can be written, for this version of this module and of Python."""

    def __init__(self) -> None:
        own = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:SHORT]
        self.path = Path(__file__).parent / "__pycache__" / f"code-{own}.{sys.implementation.cache_tag}.json"
        self._new: dict[str, tuple[str, tuple[Imported, ...]]] = {}
        try:
            self._known = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self._known = {}

    def get(self, text: str) -> tuple[str, tuple[Imported, ...]] | None:
        name = _name(text)
        if name in self._new:
            return self._new[name]
        known = self._known.get(name)
        return known and (known[0], tuple(Imported(level, module, tuple(names), line) for level, module, names, line in known[1]))

    def put(self, text: str, read: tuple[str, tuple[Imported, ...]]) -> None:
        self._new[_name(text)] = read

    def save(self) -> None:
        """Add what was new; nothing where the place cannot be written."""
        if not self._new:
            return
        self._known = (self._known if len(self._known) < REMEMBERED else {}) | self._new
        self._new = {}
        try:
            write_atomic(self.path, json.dumps(self._known))
        except StoreError:
            pass


def _name(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class _Strip(ast.NodeTransformer):
    """Removes every bare string statement: docstrings and the attribute docs under dataclass fields."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node


def _imported_files(imports: Iterable[Imported], name: str, root: Path) -> list[str]:
    paths: list[str] = []
    for one in imports:
        module = _base(one, name)
        if module and module[0] in PACKAGES:
            files = _module_files(module, root)
            if files is None:
                raise ConfigError(f"{name} line {one.line}: imports {'.'.join(module)}, which does not exist; correct the import")
            paths += files
        for inner in one.names:  # a submodule, or a name defined in the module found above
            if (*module, inner)[0] in PACKAGES:
                paths += _module_files((*module, inner), root) or []
    return paths


def _base(one: Imported, name: str) -> tuple[str, ...]:
    written = tuple(one.module.split(".")) if one.module else ()
    if one.level == 0:
        return written
    package = Path(name).parent.parts
    return (*package[: len(package) - one.level + 1], *written)


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
