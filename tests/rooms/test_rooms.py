"""New rooms: what is written, what is refused, and that check-paper names each thing that is missing or wrong."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from common.config import ConfigError, known_papers, load_spec
from common.config.index import IMPLEMENTED, entries
from common.rooms.check import lines_of, missing
from common.rooms.new import TEMPLATES, name_of, new_room

ROOT = Path(__file__).resolve().parents[2]
NEW = next(id_ for id_, entry in entries(ROOT).items() if entry.status != IMPLEMENTED)
ENV = "countdown-answer-v1"


@pytest.fixture
def project(tmp_path) -> Path:
    """What rooms are made from: the papers, parameters and the glossary."""
    (tmp_path / "tests").symlink_to(ROOT / "tests")  # only looked at
    for name in ("papers", "docs", "common"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.png"))
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


def test_a_new_room_has_all_its_files_and_edits_no_other(project):
    (project / "tests").unlink()
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    made = new_room(project, NEW, like="score", env=ENV)
    assert {path.relative_to(project).as_posix() for path in made} == {
        f"papers/{NEW}/__init__.py", *(target.format(id=NEW) for target in TEMPLATES.values())}
    assert {path: path.read_bytes() for path in before} == before
    assert load_spec(project, NEW).envs == (ENV,) and load_spec(project, NEW).family == entries(ROOT)[NEW].family
    assert not any("$" in path.read_text() for path in made if path.suffix == ".py")
    assert entries(project)[NEW].status == IMPLEMENTED
    with pytest.raises(ConfigError, match="exists but a new room overwrites nothing"):
        new_room(project, NEW, like="score", env=ENV)


@pytest.mark.parametrize(("paper", "like", "env", "message"), [
    ("scroe", "score", ENV, 'paper: "scroe" is not in papers/index.csv, which lists every paper that may be added; did you mean "score"'),
    (NEW, "scroe", ENV, 'did you mean "score"'), (NEW, "score", "shop-v1", '--env: score does not run on "shop-v1"; papers that do: agent_q')])
def test_wrong_names_write_nothing(project, paper, like, env, message):
    with pytest.raises(ConfigError, match=message):
        new_room(project, paper, like=like, env=env)
    assert set(known_papers(project)) == set(known_papers(ROOT))


@pytest.mark.parametrize("paper", known_papers(ROOT))
def test_a_published_paper_lacks_nothing_but_brevity(paper):
    assert [one for one in missing(ROOT, paper) if "should have at most" not in one] == []


@pytest.mark.parametrize(("file", "old", "new", "message"), [
    ("claims.yaml", "better: score", "better: scoer", 'names the variant "scoer", which variants\\(p\\) of method.py does not have'),
    ("claims.yaml", "value: base/checks", "value: bass/checks", 'check checking names the variant "bass", which variants'),
    ("claims.yaml", "metric: delta", "metric: detla", "does not say what the metric detla is"),
    ("README.md", "## The idea", "## An idea", 'has no section "## The idea"'),
    ("README.md", "<!-- ladder/score:begin -->", "", "has no place for the ladder table"),
    ("README.md", "`papers/score/method.py", "`papers/score/metod.py", "names papers/score/metod.py, which does not exist"),
    ("params.yaml", 'source: "paper, Table 5: beta1', 'source: "ours: placeholder of new-paper; beta1', "1 placeholders of new-paper"),
])
def test_what_is_missing_or_wrong_is_named(project, file, old, new, message):
    assert [one for one in missing(project, "score") if "should have at most" not in one] == []
    path = project / "papers/score" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert [one for one in missing(project, "score") if re.search(message, one)]


def test_a_paper_outside_the_pipeline_is_named(project):
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("score, ", ""))
    assert "params.yaml: papers does not list score, so the pipeline leaves it out; add the word score" in missing(project, "score")


def test_tables_that_commands_fill_are_not_counted():
    readme = ROOT / "papers/score/README.md"
    counted = lines_of(ROOT, "score")["papers/score/README.md"]
    assert 60 < counted < len(readme.read_text().splitlines()) - 20


def test_names_are_spelled_as_titles_do():
    assert name_of("vpt", "Video PreTraining (VPT): Learning to Act") == "VPT" and name_of("b_star", "B-STaR: Monitoring") == "B Star"
