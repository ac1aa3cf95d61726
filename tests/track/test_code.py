"""The code hash follows reachable code and nothing else."""

from pathlib import Path

import pytest

from common.config import ConfigError
from common.track.code import code_hash

FILES = {
    "notebooks/ladder.py": "# %% [markdown]\n# # Title\n# %%\nfrom papers.ladder import method\nmethod.train()\n",
    "papers/ladder/__init__.py": "",
    "papers/ladder/method.py": "import os\nimport common.loss\nfrom common.search import tree\n"
                               "from common.deep.inner import f\ndef train():\n    from ..other import late\n    return late\n",
    "papers/other.py": "late = 1\n",
    "common/__init__.py": "",
    "common/loss.py": 'def loss(x):\n    """Twice."""\n    return 2 * x\n',
    "common/search/__init__.py": "WIDTH = 3\n",
    "common/search/tree.py": "from . import sibling\nfrom .sibling import value as v\n",
    "common/search/sibling.py": "value = 1\n",
    "common/search/unused.py": "value = 1\n",
    "common/deep/inner.py": "def f():\n    return 1\n",
}
ENTRIES = ["notebooks/ladder.py"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_reachable_files_are_exactly_these(root):
    # namespace packages (no __init__, as common/deep) are followed; os is left to the environment lock
    assert code_hash(ENTRIES, root).files == tuple(sorted(set(FILES) - {"common/search/unused.py"}))


@pytest.mark.parametrize("name", sorted(set(FILES) - {"common/search/unused.py"}))
def test_a_changed_statement_in_any_reachable_file_changes_the_hash(root, name):
    before = code_hash(ENTRIES, root)
    (root / name).write_text(FILES[name] + "changed = True\n")
    assert code_hash(ENTRIES, root).digest != before.digest


def test_body_changes_count_comments_docstrings_and_layout_do_not(root):
    def digest(text: str) -> str:
        (root / "common/loss.py").write_text(text)
        return code_hash(ENTRIES, root).digest

    before = digest(FILES["common/loss.py"])
    assert digest('"""A module."""\n\n\ndef loss(x):  # a comment\n    """Two times x.\n\n    More."""\n\n'
                  '    return (2 * x)\n') == before
    assert digest('def loss(x):\n    """Twice."""\n    return 3 * x\n') != before
    assert digest('def loss(x):\n    """Twice."""\n    "other".strip()\n    return 2 * x\n') != before
    assert digest('def loss(x, y="Twice."):\n    return 2 * x\n') != before


def test_markdown_cells_and_unreachable_files_do_not_count(root):
    before = code_hash(ENTRIES, root)
    edited = FILES["notebooks/ladder.py"].replace("# # Title", "# # Another title\n#\n# with a story")
    (root / "notebooks/ladder.py").write_text(edited)
    (root / "common/search/unused.py").write_text("value = 2\n")
    assert code_hash(ENTRIES, root) == before
    (root / "notebooks/ladder.py").write_text(edited.replace("method.train()", "method.train(2)"))
    assert code_hash(ENTRIES, root).digest != before.digest


def test_a_c_file_beside_a_followed_module_counts(root):
    before = code_hash(ENTRIES, root)
    (root / "common/search/tree.c").write_text("int one = 1;\n")
    after = code_hash(ENTRIES, root)
    (root / "common/search/unused.c").write_text("int one = 1;\n")
    assert code_hash(ENTRIES, root) == after and set(after.files) - set(before.files) == {"common/search/tree.c"}
    (root / "common/search/tree.c").write_text("int one = 2;\n")
    assert len({before.digest, after.digest, code_hash(ENTRIES, root).digest}) == 3


def test_the_hash_does_not_depend_on_where_the_project_lies_or_on_the_order(root, tmp_path_factory):
    other = tmp_path_factory.mktemp("elsewhere")
    for name, text in FILES.items():
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).write_text(text)
    two = ["notebooks/ladder.py", "papers/ladder/method.py"]
    assert code_hash(two, root) == code_hash([other / name for name in reversed(two)], other)


def test_cycles_end(root):
    (root / "common/search/sibling.py").write_text("from common.search import tree\nvalue = 1\n")
    assert "common/search/sibling.py" in code_hash(ENTRIES, root).files


@pytest.mark.parametrize(("name", "text", "words"), [
    ("common/loss.py", "def loss(:\n", "common/loss.py line 1: not valid Python"),
    ("common/loss.py", "import common.gone\n", "common/loss.py line 1: imports common.gone, which does not exist"),
    ("common/search/tree.py", "x = 1\nfrom .gone import y\n", "line 2: imports common.search.gone"),
])
def test_broken_code_is_told(root, name, text, words):
    (root / name).write_text(text)
    with pytest.raises(ConfigError, match=words):
        code_hash(ENTRIES, root)


def test_a_missing_entry_is_told(root):
    with pytest.raises(ConfigError, match="entry notebooks/gone.py is not a file of this project"):
        code_hash(["notebooks/gone.py"], root)
