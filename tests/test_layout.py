"""The layout that the design promises: imports point one way, files stay readable, the project names no machine."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 600
LONG_FILES: dict[str, str] = {}
"""Python files allowed above LONGEST lines, with the reason."""

PLACES = ("common", "papers", "configs", "notebooks", "docs", "tests", "benchmarks", "README.md", "Makefile",
          "CONTRIBUTING.md", "CHANGELOG.md", "Dockerfile", "params.yaml", "dvc.yaml", "pyproject.toml", "environment.yml")  # fmt: skip
TEXT = {".py", ".md", ".yaml", ".yml", ".toml", ".csv", ".json", ".ipynb", ".jinja", ".cff", ".txt", ""}

MACHINE_PATH = re.compile(r"(?<![\w.~}>)\]-])/(?:home|root|work|tmp|Users|mnt|media|srv|data|var/folders)/[\w.]")
ALLOWED_PATHS: dict[str, str] = {}
"""Text files that may hold an absolute path, with the reason."""


def modules(*folders: str) -> list[Path]:
    return [p for folder in folders for p in sorted((ROOT / folder).rglob("*.py")) if "__pycache__" not in p.parts]


def imported(path: Path, text: str) -> set[str]:
    """Dotted names of everything ``text`` imports; relative ones are resolved against ``path``."""
    found = set()
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(package[: len(package) - node.level + 1]) + "." if node.level else ""
            found |= {f"{above}{node.module or ''}.{alias.name}".replace("..", ".") for alias in node.names}
    return found


def outward(path: Path, text: str) -> set[str]:
    """Imports of ``path`` that point the wrong way."""
    parts, names = path.relative_to(ROOT).parts, imported(path, text)
    if parts[0] == "common":
        return {name for name in names if name.split(".")[0] in ("papers", "notebooks", "tests")}
    if parts[0] == "papers":
        own = parts[1] if len(parts) > 2 else ""
        return {name for name in names if name.split(".")[0] in ("notebooks", "tests")
                or (name.split(".")[0] == "papers" and name.split(".")[1:2] != [own])}  # fmt: skip
    return set()


def test_imports_point_one_way():
    files = modules("common", "papers")
    assert len(files) > 40
    wrong = {str(p.relative_to(ROOT)): bad for p in files if (bad := outward(p, p.read_text(encoding="utf-8")))}
    assert not wrong, f"imports go notebooks → papers → common, and papers never import each other: {wrong}"


@pytest.mark.parametrize(
    ("file", "line", "wrong"),
    [
        ("common/lm/x.py", "from papers.agent_q import method", True),
        ("common/x.py", "import papers", True),
        ("common/lm/x.py", "from common.lm import engine", False),
        ("common/lm/x.py", "from . import engine", False),
        ("common/x.py", "def f():\n    import papers.agent_q.method", True),
        ("papers/agent_q/x.py", "from papers.score import method", True),
        ("papers/agent_q/x.py", "from ..score import method", True),
        ("papers/agent_q/x.py", "from papers import score", True),
        ("papers/agent_q/x.py", "from papers.agent_q import method", False),
        ("papers/agent_q/x.py", "from . import method", False),
        ("papers/agent_q/x.py", "from common.lm import engine", False),
        ("papers/agent_q/x.py", "import notebooks.tree_search_dpo", True),
    ],
)
def test_the_import_check_can_fail(file, line, wrong):
    assert bool(outward(ROOT / file, line)) == wrong


ORDER = ("types", "rng", "ranks", "files", "network", "config", "rows", "policy", "envs", "lm", "search", "learn", "evaluate", "base", "track", "lab",
         "probes", "sweep", "report", "rooms", "cli", "__main__")  # fmt: skip
"""Rooms and modules of ``common`` from the bottom up: each imports from those before it."""


def upward(path: Path, text: str) -> set[str]:
    """Imports of a file of ``common`` that lead to a room above its own."""
    own = ORDER.index(path.relative_to(ROOT).with_suffix("").parts[1])
    rooms = {name: name.split(".")[1] for name in imported(path, text) if name.startswith("common.")}
    return {name for name, room in rooms.items() if ORDER.index(room) > own}


def test_rooms_of_common_import_downwards():
    files = [path for path in modules("common") if path.name != "__init__.py" or path.parent != ROOT / "common"]
    wrong = {str(p.relative_to(ROOT)): bad for p in files if (bad := upward(p, p.read_text(encoding="utf-8")))}
    assert not wrong, f"imports of common go down the list ORDER: {wrong}"
    assert upward(ROOT / "common/lm/x.py", "from common.report import figures") == {"common.report.figures"}


def test_common_names_no_paper():
    """But for examples of commands in texts, which are no statements."""
    papers = [path.parent.name for path in ROOT.glob("papers/*/claims.yaml")]
    named = {}
    for path in modules("common"):
        names = {node.value for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                 if isinstance(node, ast.Constant) and node.value in papers}  # fmt: skip
        if names - {"score", "agent_q", "rest_mcts"}:  # also the names of a metric, and of rules of tree search
            named[str(path.relative_to(ROOT))] = names
    assert not named, named


def test_search_and_environments_know_no_model():
    """The rooms' "never holds" that an import shows."""
    models, players = ("torch", "transformers", "trl"), ("common.envs", "common.search")
    rooms = {"common/envs": models, "common/search": models, "common/track": models, "common/learn": players}
    for folder, forbidden in rooms.items():
        for path in modules(folder):
            names = imported(path, path.read_text(encoding="utf-8"))
            bad = {name for name in names if any(name == f or name.startswith(f + ".") for f in forbidden)}
            assert not bad, f"{path.relative_to(ROOT)} imports {bad}"


def test_files_stay_readable():
    files = modules("common", "papers", "notebooks", "tests", "benchmarks")
    lengths = {str(p.relative_to(ROOT)): len(p.read_text(encoding="utf-8").splitlines()) for p in files}
    long = {name: n for name, n in lengths.items() if n > LONGEST}
    assert long.keys() == LONG_FILES.keys(), f"above {LONGEST} lines: {long}; allowed: {LONG_FILES}"
    assert all(LONG_FILES.values())


def test_every_module_says_on_its_first_line_what_it_is():
    silent = []
    for path in modules("common", "papers"):
        text = path.read_text(encoding="utf-8")
        if text.strip() and not re.match(r'r?"""\S', text):
            silent.append(str(path.relative_to(ROOT)))
        elif not text.strip() and path.name != "__init__.py":
            silent.append(str(path.relative_to(ROOT)))
    assert not silent, f"no docstring on the first line of {silent}"


def texts() -> list[Path]:
    """The project's text files: those git tracks and those it would (new, not ignored)."""
    asked = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *PLACES]
    listed = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip(f"needs git and a work tree to know which files belong to the project: {listed.stderr.strip()}")
    return [p for p in (ROOT / name for name in listed.stdout.splitlines()) if p.suffix in TEXT and p.is_file()]


def test_no_file_names_a_machine():
    files, found = texts(), {}
    assert len(files) > 80
    for path in files:
        name = str(path.relative_to(ROOT))
        lines = path.read_text(encoding="utf-8").splitlines()
        hits = [f"{i}: {line.strip()[:100]}" for i, line in enumerate(lines, 1) if MACHINE_PATH.search(line)]
        if hits and name not in ALLOWED_PATHS:
            found[name] = hits
    assert not found, f"absolute paths of one machine: {found}"


SLASH = "/"
"""Written apart, so that the examples are no paths of a machine themselves."""


@pytest.mark.parametrize(
    ("line", "named"),
    [(f"open('{SLASH}home/me/x')", True), (f"see {SLASH}media/x", True), (f"cd {SLASH}srv/x", True), (f"`{SLASH}mnt/x`", True),
     (f"https://host{SLASH}home/me", False), (f"runs{SLASH}mnt/x", False), (f"a {SLASH}mntl b", False), (f"{{root}}{SLASH}data/x", False),
     (f"file://{SLASH}home/me", True), (f"x = Path('{SLASH}Users/me/x')", True)],
)  # fmt: skip
def test_the_path_check_can_fail(line, named):
    assert bool(MACHINE_PATH.search(line)) == named


INTERPRETED = {"common/sweep/unit.py": "builds a paper's Params from our own source without importing the rest"}
"""Files that may call eval or exec, with the reason."""


def test_nothing_evaluates_or_unpickles():
    """Model-written text meets no interpreter, and no file is unpickled."""
    bad = []
    for path in modules("common", "papers"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                if name in ("eval", "exec", "pickle.load", "pickle.loads", "torch.load", "joblib.load", "yaml.load"):
                    if name in ("eval", "exec") and str(path.relative_to(ROOT)) in INTERPRETED:
                        continue
                    bad.append(f"{path.relative_to(ROOT)}:{node.lineno} {name}")
    assert not bad, bad


def test_index_lists_every_paper_folder():
    rows = (ROOT / "papers/index.csv").read_text(encoding="utf-8")
    for folder in sorted(p.name for p in (ROOT / "papers").iterdir() if (p / "params.yaml").exists()):
        assert folder in rows, f"papers/index.csv has no row for {folder}"


def test_readme_is_short_and_its_tree_exists():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = text.split("## Where things are")[1].split("```")[1]
    named = [line.split()[0] for line in tree.strip().splitlines()]
    assert len(named) >= 8 and [name for name in named if not (ROOT / name.rstrip("/")).exists()] == []
    assert len(text.splitlines()) <= 150 and "make repro" in "\n".join(text.splitlines()[:30])


def test_the_lab_log_lists_every_entry_newest_first():
    index = (ROOT / "docs/lab-log.md").read_text(encoding="utf-8")
    listed = re.findall(r"^- (\S+): \[(.+)\]\((lab-log/[\w-]+\.md)#([\w-]+)\)$", index, re.MULTILINE)
    pages = {f"lab-log/{path.name}": path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs/lab-log").glob("*.md"))}
    assert {page for _, _, page, _ in listed} == set(pages)
    for name, text in pages.items():
        headings = re.findall(r"^## (\S+): (.+)$", text, re.MULTILINE)
        assert headings == [(date, title) for date, title, page, _ in listed if page == name], name
        assert [date for date, _ in headings] == sorted((date for date, _ in headings), reverse=True), name
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", date) and name.startswith(f"lab-log/{date[:4]}-") for date, _ in headings)
    for date, title, _, anchor in listed:  # as a code host and MkDocs both make it: no sign that they treat differently
        assert anchor == re.sub(r"[^a-z0-9 -]", "", f"{date} {title}".lower()).replace(" ", "-") and title.isascii()
