"""Identity of the code that a result depends on: hash of the paper's own code, fingerprints of layers, hashes of other files.

``results/identity/<paper>.json`` is that of every paper, with the hashes of its panels and base models: what the pipeline looks at
to know whether a table is out of date (:func:`write_identities`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from common.config import PaperSpec
from common.envs.panels import env_file
from common.track.code import Modules
from common.track.fingerprints import Fingerprints, read
from common.track.layers import FILE, Parts, env_layer, parts


@dataclass(frozen=True)
class CodeIdentity:
    """Code identity of a unit: ``room`` and ``layers`` are part of its key, ``code`` and ``digests`` are hashes of the code as
    it is; see :class:`common.track.store.UnitSpec`."""

    room: str
    layers: dict[str, str]
    code: str
    digests: dict[str, str]


class Identities:
    """The code at ``root`` as it is now, read once for many units; ``prints`` are the fingerprints recorded there."""

    def __init__(self, root: Path) -> None:
        self.root, self.modules = root, Modules(root)
        self._parts: dict[tuple[str, ...], Parts] = {}

    @cached_property
    def prints(self) -> Fingerprints:
        return read(self.root)

    def unit(self, spec: PaperSpec, env: str) -> CodeIdentity:
        """Code identity of a paper's units in an environment. ConfigError for code that cannot be read."""
        return self.of(entry_files(spec, env), env, spec.paper)

    def parts_of_unit(self, spec: PaperSpec, env: str) -> Parts:
        """The code of a paper's units divided into room and layers, before fingerprints are looked up."""
        return self.parts(entry_files(spec, env), env)

    def of(self, reached_from: Sequence[str], env: str, paper: str = "") -> CodeIdentity:
        """Code identity of everything that the files reach in an environment."""
        parts = self.parts(reached_from, env)
        room, layers = self.prints.canonical(paper, parts.room, self.raw(parts))
        digests = parts.layers | ({"room": parts.room} if parts.room else {})
        return CodeIdentity(room, layers, parts.code, dict(sorted(digests.items())))

    def parts(self, reached_from: Sequence[str], env: str) -> Parts:
        """Everything that the files reach divided into room and layers, before fingerprints are looked up."""
        name = (env, *reached_from)
        if name not in self._parts:
            self._parts[name] = parts(self.modules, reached_from, env_layer(env, env_file(env)))
        return self._parts[name]

    def raw(self, parts: Parts) -> dict[str, str]:
        """Fingerprints of layers, and hashes of files, of the code as it is, whatever it was proven to be the same as."""
        return {name: digest if name.startswith(FILE) else self.prints.of(name, digest) for name, digest in parts.layers.items()}


def entry_files(spec: PaperSpec, env: str) -> tuple[str, str]:
    """The files from which a unit's code is reached, relative to the root: method and environment.

    Not the notebook: it calls ``run(unit)`` of the method, which writes all rows, and shows them.
    """
    return spec.method, env_file(env)
