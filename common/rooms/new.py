"""``python -m common new-paper ID --like PAPER --env ENV``: a room that runs at once, to be filled with the paper's method."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template

from common.config import ConfigError, check_paper, hint, known_papers, load_spec
from common.config.spec import shared_parameters
from common.config.index import entry_of
from common.envs.panels import supplied
from common.files import storage, write_atomic
from common.sweep.sizes import panel_sizes

TEMPLATES = {"method.py": "papers/{id}/method.py", "params.yaml": "papers/{id}/params.yaml", "claims.yaml": "papers/{id}/claims.yaml",
             "README.md": "papers/{id}/README.md", "test.py": "tests/papers/test_{id}.py"}  # fmt: skip
"""Template → the file it becomes."""


def new_room(root: Path, paper: str, *, like: str, env: str) -> list[Path]:
    """Write the room of ``paper`` for the environment ``env``, and its test. Returns the files.

    ``like`` is a paper that exists: the new one takes its values of the parameters that papers share. Nothing else is
    edited. ConfigError where the index lacks the id, a file of the room exists, or ``like`` does not run on ``env``.
    """
    entry = entry_of(root, paper)
    check_paper(root, like, "--like")
    spec = load_spec(root, like)
    if env not in spec.envs:
        users = [one for one in known_papers(root) if env in load_spec(root, one).envs]
        other = f"papers that do: {', '.join(users)}" if users else hint(env, spec.envs)
        raise ConfigError(f'--env: {like} does not run on "{env}"; {other}')
    made = {root / target.format(id=paper): Path(__file__).with_name(f"{name}.txt") for name, target in TEMPLATES.items()}
    present = [path for path in made if path.exists()]
    if present:
        raise ConfigError(f"paper: {present[0].relative_to(root)} exists but a new room overwrites nothing; move it away, or run: "
                          f"python -m common check-paper {paper}")
    fields = {"id": paper, "name": name_of(paper, entry.title), "title": entry.title, "cite": entry.cite, "family": entry.family, "env": env,
              "shared": shared_entries(root, like), "test_tasks": 400 if supplied(env) else panel_sizes(root, env).get("test", 400)}
    with storage(root / "papers" / paper):
        (root / "papers" / paper).mkdir(parents=True, exist_ok=True)
        write_atomic(root / "papers" / paper / "__init__.py", f'"""{name_of(paper, entry.title)} ({entry.cite})."""\n')
        for path, template in made.items():
            write_atomic(path, Template(template.read_text(encoding="utf-8")).substitute(fields))
    return sorted([*made, root / "papers" / paper / "__init__.py"])


def shared_entries(root: Path, paper: str) -> str:
    """The lines of a paper's params.yaml that state, by a reason of ours, shared parameters for all environments alike."""
    text, taken = (root / "papers" / paper / "params.yaml").read_text(encoding="utf-8"), []
    for name in shared_parameters():
        match = re.search(rf"^  {name}:\n(?:    .*\n)+", text, re.MULTILINE)
        if match and "{" not in match[0] and 'source: "ours' in match[0] and name != "model":
            taken.append(match[0])
    return "".join(taken)


def name_of(paper: str, title: str) -> str:
    """A name to begin with: ``b_star`` → "B Star"; in capitals where the title has them."""
    spelled = set(re.findall(r"\w+", title))
    return " ".join(word.upper() if word.upper() in spelled else word.title() for word in paper.split("_"))
