"""facts-two-holders-v1: talks word by word, what each player may know, the floor, styles, contract and panels."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product

import pytest

from common.base import demonstrations
from common.envs import check_env
from common.envs.versions.facts_two_holders_v1 import (
    FLOOR, KEY_OF, MESSAGES, OPENINGS, REMARKS, SHOWN, SIZES, STYLES, VALUES, FactsTwoHoldersEnv, build, declared, guessed, heard_as, known_answer,
)  # fmt: skip
from common.learn.batches import encode
from common.lm.bases import settings_for
from common.lm.tokenizer import train_tokenizer
from common.rng import generator
from common.types import Task

DATA = {"facts": [["wood", "red", "ring", "big", "sour"], ["blue", "star", "gold", "mild", "tiny"]], "key": "color"}
TASK = Task("t", "facts-two-holders-v1", "t", DATA)


@pytest.fixture(scope="module")
def panels() -> dict[str, list[Task]]:
    return {name: [Task(**row) for row in rows] for name, rows in build(0).items()}


@pytest.fixture(scope="module")
def shown(panels):
    """Demonstrations, and the tokenizer that the base model gets from them."""
    chosen = settings_for("facts-two-holders-v1", "cpu")
    examples = demonstrations(FactsTwoHoldersEnv(), panels["demos"], seed=0, repeats=1)[:5000]
    texts = [f"{e.prompt[0]['content']} {e.completion}" for e in examples]
    return examples, train_tokenizer(texts, chosen.vocab, split_digits=False), chosen


def after(task: Task, *said: str) -> FactsTwoHoldersEnv:
    env = FactsTwoHoldersEnv()
    env.reset(task)
    for text in said:
        env.step(text)
    return env


def asked(env: FactsTwoHoldersEnv) -> str:
    return env.prompt()[0]["content"]


def test_a_talk_word_by_word():
    env = after(TASK)
    assert asked(env) == "wood,red,ring,big,sour|find:color"
    env.step("big")
    assert asked(env) == "blue,star,gold,mild,tiny|find:color|you:big"
    env.step("?")
    env.step("color:red")
    assert asked(env).endswith("|find:color|you:big|me:?|you:color:red")
    last = env.step("so now;red:blue!")
    assert (last.reward, last.terminated, env.actions()) == (1.0, True, [])
    with pytest.raises(RuntimeError, match="episode of task t is over"):
        env.step("?")


def test_who_begins_and_who_answers_declare_alike():
    assert after(TASK).step("blue:red!").reward == after(TASK, "red").step("red:blue!").reward == 1.0
    assert after(TASK).step("red:blue!").reward == after(TASK, "red").step("blue:red!").reward == 0.0


def test_how_a_talk_ends():
    assert after(TASK).step("  \n").terminated  # silence
    env = after(TASK, *["sure"] * (MESSAGES - 1))
    assert env.step("red").terminated and env.snapshot().over  # the last message
    assert [declared(text) for text in ("red:blue!", "so;red:blue!", "red:blue! so", "red:blue", "!")] == [
        "red:blue!", "red:blue!", None, None, "!"]  # fmt: skip
    assert heard_as("é\n\nx ") == "? x" and len(heard_as("y" * 99)) == SHOWN


def test_what_follows_from_what_was_heard():
    for said, known in (("red", "red:blue!"), ("color:red", "red:blue!"), ("big,red,wood", "red:blue!"), ("sure to be;red", "red:blue!"),
                        ("big", None), ("?", None), ("reddish", None), ("pink", "pink:blue!")):  # fmt: skip
        assert known_answer(after(TASK, said).snapshot()) == known
    assert known_answer(after(TASK, "red", "sure").snapshot()) is None  # its own words tell it nothing
    assert known_answer(after(TASK, "pink", "?", "red").snapshot()) == "red:blue!"  # what was said last


def test_guesses_are_told_from_answers_that_follow():
    right, wrong, at_once = "red:blue!", "pink:blue!", "blue:red!"
    talks = [("red", right), ("sure", right), ("sure", wrong), ("red", wrong), ("big", right), (at_once,), ("red", "sure")]
    assert [guessed(FactsTwoHoldersEnv(), TASK, said) for said in talks] == [False, True, True, False, True, True, False]


def test_neither_knows_alone():
    """A player reads the same whatever the other knows; and all values of a key are as likely as others."""
    others = list(product(*VALUES.values()))[::97]
    assert len({asked(after(replace(TASK, data=DATA | {"facts": [DATA["facts"][0], list(one)]}))) for one in others}) == 1
    assert len(after(TASK).guesses()) == 6


def test_words_are_one_token_and_the_shortest_certain_talk_has_the_floors_tokens(panels, shown):
    _, tokenizer, _ = shown

    def length(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    for word in (*KEY_OF, *VALUES):
        assert length(word) == 1 and length(f"me:{word}|{word}:{word},{word}!|so;{word}") == 14, word
    for task in panels["test"][:50]:
        env, tokens, seen = after(task), 0, None
        while seen is None or not seen.done:
            tokens += length(text := env.brief()) + 1
            seen = env.step(text)
        assert (tokens, seen.reward) == (FLOOR, 1.0)


def test_no_shorter_message_makes_certain():
    """A word is the least message, since an empty one ends the talk; no word but a value of the key tells the answer."""
    words = ("?", *KEY_OF, *VALUES, "sure")
    assert {known_answer(after(TASK, word).snapshot()) for word in words if KEY_OF.get(word) != "color"} == {None}


def test_every_prompt_fits_the_context_whatever_is_said(shown):
    examples, tokenizer, chosen = shown
    encode("t", tokenizer, [e.prompt for e in examples], [e.completion for e in examples], max_length=chosen.context)
    env = after(TASK, *["~^" * 50] * (MESSAGES - 1))
    [longest], _ = encode("t", tokenizer, [env.prompt()], ["x"], max_length=chosen.context)
    assert len(longest) + 24 <= chosen.context


def test_demonstrators_talk_in_every_style(panels):
    env, rng, seen, won = FactsTwoHoldersEnv(), generator("styles"), Counter(), 0.0
    for task in panels["demos"][:1000]:
        observation = env.reset(task)
        while not observation.done:
            text, taken = env.expert(rng)
            assert text == taken and len(text) < SHOWN
            state = env.snapshot()
            if known_answer(state) is None:
                told = state.own[state.key]
                seen.update(asks=1, bare=text == told, all=text.count(",") == 4, mark=text == "?", padded=text.endswith(f";{told}"))
            observation = env.step(text)
        won += observation.reward
    for style in ("bare", "all", "mark", "padded"):
        assert seen[style] / seen["asks"] == pytest.approx(STYLES["asks"][style], abs=0.03)
    assert 0.7 < won / 1000 < 0.9
    assert all(sum(odds.values()) == pytest.approx(1.0) for odds in STYLES.values())
    assert not set(KEY_OF) & set(" ".join((*OPENINGS, *REMARKS)).split())  # chat tells nothing


def test_the_contract_holds(panels):
    check_env(FactsTwoHoldersEnv(), [*panels["test"][:15], *panels["demos"][:15]])
    tried = [after(task) for task in panels["train"]]
    assert sum(one.step(one.lazy()).reward for one in tried) / len(tried) == pytest.approx(1 / 6, abs=0.04)


def test_panels_share_no_facts_and_repeat(panels):
    assert {name: len(tasks) for name, tasks in panels.items()} == SIZES and build(0) == build(0) != build(1)
    every = [frozenset(frozenset(one) for one in task.data["facts"]) for tasks in panels.values() for task in tasks]
    assert len(set(every)) == len(every)
    assert set(Counter(task.data["key"] for task in panels["train"])) == set(VALUES)
