"""Which parts of its code a unit depends on: its own folder, layers as far as their probes reach, and every other file by itself."""

from pathlib import Path

import pytest

from common.config import ConfigError
from common.track import layers
from common.track.code import SHORT, Modules
from common.track.layers import Layer, covered, describe_layer, env_layer, parts

FILES = {
    "papers/__init__.py": "",
    "papers/one/__init__.py": '"""One."""\n',
    "papers/one/method.py": "from common.search.tree import grow\nfrom common.search.alone import odd\nfrom common.track.rows import row\n"
                            "from . import helper\n",
    "papers/one/helper.py": "from common.types import T\n",
    "papers/two/method.py": "from common.search.play import go\n",
    "common/__init__.py": "",
    "common/types.py": "T = int\n",
    "common/search/__init__.py": '"""A room without a statement."""\n',
    "common/search/play.py": "from common.types import T\ndef go():\n    return T(1)\n",
    "common/search/tree.py": "from common.search.play import go\ndef grow():\n    return go()\n",
    "common/search/alone.py": "from common.config.strict import x\nodd = 1\n",
    "common/track/rows.py": "from common.track import hidden\nrow = 1\n",
    "common/track/hidden.py": "x = 1\n",
    "common/config/strict.py": "x = 1\n",
    "common/envs/shop.py": "from common.types import T\nprice = T(3)\n",
    "common/envs/game.py": "from common.envs.shop import price\n",
    "common/probes/tree.py": "from common.search.tree import grow\nfrom common.probes.tools import tool\n",
    "common/probes/play.py": "from common.search.play import go\n",
    "common/probes/tools.py": "tool = 1\n",
    "common/probes/environments.py": "",
}  # fmt: skip
TABLE = (Layer("tree", ("common/search/tree.py",), ("common/probes/tree.py",), "trees"),
         Layer("play", ("common/search/play.py",), ("common/probes/play.py",), "play"))  # fmt: skip
ENV = env_layer("game", "common/envs/game.py")


@pytest.fixture
def root(tmp_path: Path, monkeypatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(layers, "LAYERS", TABLE)
    return tmp_path


def of(root: Path, paper: str = "one") -> layers.Parts:
    return parts(Modules(root), [f"papers/{paper}/method.py", "common/envs/game.py"], ENV)


def changed(root: Path, name: str) -> None:
    (root / name).write_text(FILES[name] + "changed = True\n")


def test_every_file_is_in_the_room_in_a_layer_or_by_itself(root):
    found = of(root)
    assert set(found.layers) == {"tree", "play", "env:game", "file:common/search/alone.py"}
    assert len(found.room) == SHORT and found.room != of(root, "two").room
    assert found.layers["file:common/search/alone.py"] == Modules(root).reached(["common/search/alone.py"])["common/search/alone.py"][:SHORT]
    assert set(of(root, "two").layers) == {"play", "env:game"}  # the tree's own file is not reached


def test_a_layer_s_digest_is_that_of_all_its_probe_reaches_but_the_probe(root):
    layer = covered(Modules(root), TABLE[0])
    assert set(layer.files) == {"common/__init__.py", "common/search/__init__.py", "common/search/tree.py", "common/search/play.py",
                                "common/types.py"}  # fmt: skip
    changed(root, "common/probes/tools.py")
    assert covered(Modules(root), TABLE[0]).digest == layer.digest and covered(Modules(root), TABLE[0]).probe != layer.probe
    changed(root, "common/types.py")
    assert covered(Modules(root), TABLE[0]).digest != layer.digest


MOVES = {"papers/one/helper.py": {"room"}, "papers/one/method.py": {"room"}, "common/search/tree.py": {"tree"},
         "common/search/play.py": {"tree", "play"}, "common/search/alone.py": {"file:common/search/alone.py"},
         "common/types.py": {"tree", "play", "env:game"}, "common/envs/shop.py": {"env:game"}, "common/track/rows.py": set(),
         "common/track/hidden.py": set(), "common/config/strict.py": set(), "common/probes/tree.py": set()}  # fmt: skip


@pytest.mark.parametrize("name", MOVES)
def test_a_changed_statement_moves_what_holds_it_and_nothing_else(root, name):
    before = of(root)
    changed(root, name)
    after = of(root)
    moved = {layer for layer, digest in after.layers.items() if before.layers.get(layer) != digest}
    assert moved | ({"room"} if after.room != before.room else set()) == MOVES[name]
    assert after.layers.keys() == before.layers.keys()
    assert (after.code != before.code) == (name != "common/probes/tree.py")  # the hash of all code changes


def test_docstrings_and_comments_move_nothing(root):
    before = of(root)
    for name in ("common/search/tree.py", "common/search/__init__.py", "papers/one/helper.py"):
        (root / name).write_text('"""Another docstring."""\n# and a comment\n' + FILES[name].removeprefix('"""A room without a statement."""\n'))
    assert of(root) == before


def test_a_statement_in_an_empty_file_is_seen(root):
    (root / "common/search/__init__.py").write_text("WIDTH = 3\n")
    found = of(root, "two").layers
    assert set(found) == {"play", "env:game"}  # the probe reaches it, so it is in the layer's digest
    (root / "papers/two/method.py").write_text("import common.search\n")
    assert "file:common/search/__init__.py" in of(root, "two").layers


def test_a_layer_counts_only_by_files_that_its_probe_reaches(root):
    (root / "common/probes/play.py").write_text("")
    assert set(of(root, "two").layers) == {"env:game", "file:common/search/play.py"}


def test_a_missing_probe_is_told(root):
    (root / "common/probes/tree.py").unlink()
    with pytest.raises(ConfigError, match="common/probes/tree.py is not a file of this project"):
        of(root)


def test_a_module_beside_the_folders_is_a_layer_s_room_of_its_own():
    assert Layer("harness", ("common/lab.py",), (), "").rooms == ("common/lab.py",)
    assert Layer("x", ("common/lm/", "common/learn/a.py", "common/lm/b.py"), (), "").rooms == ("common/lm/", "common/learn/")


def test_layers_and_files_have_words():
    assert describe_layer("engine") == "language models (common/lm/)" and describe_layer("env:shop-v1") == "the environment shop-v1"
    assert describe_layer("file:common/rng.py") == "common/rng.py"
