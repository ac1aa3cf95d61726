"""reasoning-gym: panels that its version fixes, prompts with solved tasks, its own scoring, and the message without it."""

from importlib import metadata

import pytest

from common.envs import PanelError, check_env, data_hash, load_panel, make
from common.envs.versions import reasoning_gym_v1 as rg
from common.cli.commands import missing_user_files

ENV = "reasoning-gym-v1"
DIGEST = "0ae4117d228147e6e8160c6c1d8b73cc0e9a8aff5a509a3979f1015d510d2963"
"""Of what version 0.1.25 generates: another digest is another benchmark."""


@pytest.fixture
def package():
    return pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed: pip install -e '.[reasoning-gym]'")


def test_panels_are_always_the_same_and_share_no_question(package):
    panels = rg.panels()
    assert {name: len(panels[name]) for name in ("train", "validation", "test")} == {"train": 1200, "validation": 120, "test": 300}
    assert data_hash("data", ENV) == DIGEST
    rg._cells.cache_clear()
    assert data_hash("data", ENV) == DIGEST
    tasks = [task for name in ("train", "validation", "test") for task in panels[name]]
    asked = [task.data["question"] for task in tasks]
    shown = {question for task in tasks for question, _ in task.data["examples"]}
    assert len(set(asked)) == len(asked) and not shown & set(asked) and len(shown) == len(rg.CELLS) * rg.EXAMPLES
    assert len({task.id for task in tasks}) == len(tasks)


def test_ids_name_data_set_difficulty_and_seed(package):
    for split in ("train", "validation", "test"):
        whole, cells = load_panel("data", f"{ENV}/{split}"), []
        for dataset, level in rg.CELLS:
            cell = load_panel("data", f"{ENV}/{split}-{dataset}-{level}-{rg.SEEDS[split]}")
            cells += cell
            for task in cell:
                env, own, name, difficulty, seed, index = task.id.split("/")
                assert (env, own, name, difficulty, int(seed)) == (ENV, split, dataset, level, rg.SEEDS[split])
                item = package.create_dataset(name, seed=int(seed), size=10_000, **rg.CELLS[name, difficulty])[int(index)]
                assert (task.data["question"], task.data["answer"]) == (item["question"].strip(), item["answer"])
        assert {task.id for task in whole} == {task.id for task in cells} and len(whole) == len(cells)
        assert [task.data["dataset"] for task in whole[:6]] == [dataset for dataset, _ in rg.CELLS]


def test_the_environment_keeps_the_contract_and_shows_solved_tasks(package):
    env, tasks = make(ENV, "data"), load_panel("data", f"{ENV}/test")
    check_env(env, tasks[:30])
    env.reset(tasks[0])
    prompt = env.prompt()
    assert [message["role"] for message in prompt] == ["user", "assistant"] * rg.EXAMPLES + ["user"]
    assert prompt[1]["content"] == f"#### {tasks[0].data['examples'][0][1]}" and prompt[-1]["content"] == tasks[0].data["question"]
    env.step("#### 77")
    assert [message["content"] for message in env.prompt()[-2:]] == ["#### 77", env.RETRY]
    for task in tasks:
        env.reset(task)
        assert env.score(env.oracle()) == 1.0 and env.score(env.lazy()) == env.score("") == 0.0


@pytest.mark.parametrize(("dataset", "answer", "right", "wrong"), [
    ("letter_counting", "3", ["#### 3", "3", "It is there\n3 times.", "The answer is 3.", "#### 2\n#### 3", "**3**"], ["33", "#### 3\n#### 4", "three"]),
    ("needle_haystack", "Dan", ["#### Dan", "dan", "I think:\nDan.", "The answer is Dan."], ["Dan and Eve", "Dana", "Dan thrives on it"]),
    ("word_sequence_reversal", "000, the", ["#### 000, the", "000, the."], ["the, 000", "000", "0"]),
])  # fmt: skip
def test_answers_are_read_and_scored(package, dataset, answer, right, wrong):
    env = make(ENV, "data")
    task = next(task for task in load_panel("data", f"{ENV}/train") if task.data["dataset"] == dataset)
    env.reset(rg.Task(task.id, ENV, "train", {**task.data, "answer": answer}))
    for text in right:
        assert env.score(text) == env.score(env.declared(text)) == 1.0, text
    for text in wrong:
        assert env.score(text) == env.score(env.declared(text)) == 0.0, text


@pytest.mark.parametrize("found", ["0.1.24", None])
def test_another_version_or_none_is_refused_in_one_sentence(monkeypatch, tmp_path, found):
    def version(name):
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(metadata, "version", version)
    rg._package.cache_clear()
    rg._cells.cache_clear()
    try:
        for read in (lambda: load_panel("data", f"{ENV}/test"), lambda: data_hash("data", ENV)):
            with pytest.raises(PanelError, match=f"needs reasoning-gym 0.1.25, .* but it is {found or 'absent'}; run: pip install") as caught:
                read()
            assert "\n" not in str(caught.value)
        assert any(line.startswith(f"{ENV}: not available") and "pip install" in line for line in missing_user_files(tmp_path))
    finally:
        rg._package.cache_clear()
        rg._cells.cache_clear()
