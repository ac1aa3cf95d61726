"""The shared layers of the code: which files each layer's probe covers, and which parts of its code a unit depends on.

A layer is a part of ``common/`` that several papers use. Its *probe* (``common/probes/``) runs it on fixed inputs; its
*fingerprint* names what the probe saw (:mod:`common.track.fingerprints`). A unit's key holds the fingerprints of the layers
that its code reaches, and the hash of every other file that it reaches, so that nothing is left out.

To add a layer: a line in :data:`LAYERS` and a module in ``common/probes/``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from common.track.code import EMPTY, SHORT, Modules, digest_of

PROBES = "common/probes/"

NO_KEY = ("common/cli/", "common/config/", "common/lm/vllm.py", "common/report/", "common/sweep/", "common/track/")
"""Code that no unit's key holds. It resolves parameters, which are in the key themselves; stores, plans, shows and checks;
or, vLLM, runs on GPUs alone, whose results are never equal to the last bit."""

ENV = "env:"
"""Before the id of an environment, where layers are listed."""
FILE = "file:"
"""Before the path of a file that no probe covers, where layers are listed."""


@dataclass(frozen=True)
class Layer:
    """A shared part of ``common/`` with its probe.

    ``owns``: files, or folders ending in ``/``, of which a unit reaches at least one when it depends on the layer.
    ``entries``: the probe's module, and modules that it imports by computed names."""

    name: str
    owns: tuple[str, ...]
    entries: tuple[str, ...]
    words: str
    """The layer in a sentence."""

    @property
    def rooms(self) -> tuple[str, ...]:
        """The folders below ``common/`` in which it covers files, such as ``common/lm/``; a module beside these folders is its own."""
        return tuple(dict.fromkeys("/".join(one.split("/")[:2]) + "/" if one.count("/") > 1 else one for one in self.owns))


def _layer(name: str, description: str, *owns: str) -> Layer:
    return Layer(name, tuple(f"common/{one}" for one in owns), (f"{PROBES}{name}.py",), f"{description} (common/{owns[0]})")


LAYERS = (
    _layer("engine", "language models", "lm/"),
    _layer("base", "the training of base models", "base.py", "lm/bases.py"),
    _layer("learning", "fine-tuning", "learn/policy.py"),
    _layer("gradient", "policy gradients", "learn/policy_gradient.py"),
    _layer("rollouts", "episodes", "search/rollout.py", "search/policy.py"),
    _layer("search", "tree search", "search/mcts.py", "search/draw.py", "search/steps.py", "search/tree.py"),
    _layer("foresight", "foresight", "evaluate/foresight.py", "search/transitions.py"),
    _layer("evaluation", "measures of episodes", "evaluate/rollouts.py", "evaluate/habits.py"),
    _layer("correction", "measures of answers", "evaluate/correction.py", "evaluate/dialogues.py", "evaluate/votes.py"),
    _layer("decompose", "decompositions of gains", "evaluate/decompose.py"),
    _layer("wrappers", "ways to present environments", "envs/steps.py", "envs/shop/instruction.py", "envs/shop/reading.py",
           "envs/shop/shorthand.py", "search/reader.py"),
    _layer("harness", "the harness", "lab.py"),
)  # fmt: skip
"""All layers but the environments, each of which is one by itself (:func:`env_layer`). One is as large as what papers reach
together: a change of tree search must not move the key of a paper that only plays episodes."""


def env_layer(env: str, module: str) -> Layer:
    """The layer of an environment; ``module`` is its file (:func:`common.envs.env_file`)."""
    return Layer(f"{ENV}{env}", ("common/envs/",), (f"{PROBES}environments.py", module), f"the environment {env}")


def describe_layer(name: str) -> str:
    """A layer or file of a key in words, for messages."""
    known = {layer.name: layer.words for layer in LAYERS}
    return known.get(name) or name.removeprefix(FILE).replace(ENV, "the environment ")


@dataclass(frozen=True)
class Covered:
    """What a layer's probe covers: ``digest`` of ``files`` (file → hash), and ``probe``, the hash of the probe itself."""

    digest: str
    files: dict[str, str]
    probe: str


def covered(modules: Modules, layer: Layer) -> Covered:
    """The files that the layer's probe can reach, itself and :data:`NO_KEY` aside. ConfigError when its module is missing."""
    reached = modules.reached(layer.entries, outside=NO_KEY)
    own = {name: digest for name, digest in reached.items() if name.startswith(PROBES)}
    files = {name: digest for name, digest in reached.items() if name not in own}
    return Covered(digest_of(files)[:SHORT], files, digest_of(own)[:SHORT])


@dataclass(frozen=True)
class Parts:
    """The code of a unit: ``code`` is the hash of all of it, ``room`` of the paper's own files ("" where there are none),
    ``layers`` of each layer, and of each file that no layer covers, as ``file:<path>``."""

    code: str
    room: str
    layers: dict[str, str]


def parts(modules: Modules, entries: Iterable[str], env: Layer) -> Parts:
    """Divide all that ``entries`` reach into the paper's own files, layers and files that no layer covers.

    A layer belongs to the unit where the unit reaches one of the layer's own files; it then stands for all files of its folder
    that its probe covers, and of the files outside all layers' folders (``common/rng.py``) too. Files without a statement do
    not count.
    """
    reached = modules.reached(entries)
    files = {name: digest for name, digest in modules.reached(entries, outside=NO_KEY).items() if digest != EMPTY}
    room = {name: digest for name, digest in files.items() if name.startswith("papers/")}
    shared = {name: digest for name, digest in files.items() if name not in room}
    candidates = (*LAYERS, env)
    rooms = tuple({room for layer in candidates for room in layer.rooms})
    of_layer: dict[str, Covered] = {}
    known: set[str] = set()
    for layer in candidates:
        if any(name.startswith(layer.owns) for name in shared):
            one = covered(modules, layer)
            if any(name.startswith(layer.owns) for name in shared.keys() & one.files.keys()):
                of_layer[layer.name] = one
                known |= {name for name in one.files if name.startswith(layer.rooms) or not name.startswith(rooms)}
    alone = {f"{FILE}{name}": digest[:SHORT] for name, digest in shared.items() if name not in known}
    return Parts(digest_of(reached), digest_of(room)[:SHORT] if room else "",
                 {name: one.digest for name, one in of_layer.items()} | alone)
