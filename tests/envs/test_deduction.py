"""deduction-v1: its worlds, what players may know, exact beliefs by hand, votes, contract and panels."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from itertools import permutations, product

import pytest

from common.envs import check_env
from common.envs.deduction.belief import (
    TRUST, Belief, ejected, ideal, ideal_win, likelihood, most_suspect, win_probability,
)  # fmt: skip
from common.envs.deduction.world import (
    COLOURS, World, from_data, messages, renamed, seen, to_data, true_messages, worlds,
)  # fmt: skip
from common.envs.versions.deduction_v1 import (
    CREW, IMPOSTOR, SHOWN, DeductionEnv, build_panels, role_of, said_aloud,
)  # fmt: skip
from common.learn.batches import encode
from common.base import demonstrations
from common.lm.bases import settings_for
from common.lm.tokenizer import train_tokenizer
from common.rng import generator
from common.types import Task

WORLD = World("white", ("red", "pink", "green", "blue"))  # blue saw red, green pink, pink green, red blue; and white
TASK = Task("t", "deduction-v1", "test", to_data(WORLD) | {
    "order": ["green", "white", "red", "pink", "blue"], "turns": 5})  # fmt: skip


@pytest.fixture(scope="module")
def panels() -> dict[str, list[Task]]:
    return build_panels(0)


def started(task: Task = TASK) -> DeductionEnv:
    env = DeductionEnv()
    env.reset(task)
    return env


# -- the world -------------------------------------------------------------------------------------------------


def test_all_worlds_are_there_once_and_keep_the_rules():
    assert len(worlds()) == len(set(worlds())) == 405
    for world in worlds():
        assert seen(world, world.impostor) is None
        pairs = [seen(world, one) for one in world.crew]
        assert all(world.impostor in pair and one not in pair for one, pair in zip(world.crew, pairs, strict=True))
        assert set.intersection(*map(set, pairs)) == {world.impostor}  # all sightings together name it
        assert from_data(json.loads(json.dumps(to_data(world)))) == world


def test_messages_and_their_grammar():
    for speaker in COLOURS:
        texts = messages(speaker)
        assert len(texts) == len(set(texts)) == 5 and speaker not in texts and max(map(len, texts)) <= SHOWN
    assert (true_messages(("blue", "red")), true_messages(None)) == (("blue", "red"), ())


# -- beliefs, by hand ------------------------------------------------------------------------------------------


def test_alone_everybody_is_left_with_two_suspects():
    for world in worlds():
        for one in world.crew:
            pair = seen(world, one)
            assert ideal(one, pair) == {c: 0.5 if c in pair else 0.0 for c in COLOURS}


def test_one_message_by_hand():
    """Red saw blue and pink and hears green say "pink", ρ = 1/2. If pink is guilty green saw pink and another, and
    half of its reports name pink: 1/2 · 1/2 + 1/2 · 1/5. If blue is, pink is green's passer-by in one of three cases:
    1/2 · 1/6 + 1/2 · 1/5. In units of 1/60: 21 and 11."""
    heard = [("green", "pink")]
    assert ideal("red", ("blue", "pink"), heard, trust=0.5) == pytest.approx(
        {"pink": 21 / 32, "blue": 11 / 32, "red": 0, "green": 0, "white": 0})  # fmt: skip
    assert likelihood("pink", "green", "pink", 0.5) == pytest.approx(21 / 60)
    assert likelihood("blue", "green", "pink", 0.5) == pytest.approx(11 / 60)
    assert likelihood("green", "green", "pink", 0.5) == likelihood("blue", "green", "nobody", 0.0) == 1 / 5
    assert likelihood("blue", "green", "nobody", 0.5) == pytest.approx(1 / 10)


def by_enumeration(player: str, pair: tuple[str, str], heard: list[tuple[str, str]], trust: float) -> Belief:
    """Bayes' rule over all 405 worlds, each message by what its speaker saw in that world."""
    weights = dict.fromkeys(COLOURS, 0.0)
    for world in worlds():
        if seen(world, player) != pair:
            continue
        chance = 1.0
        for who, text in heard:
            if who == player or text not in messages(who):
                continue
            facts = true_messages(seen(world, who)) 
            chance *= (1 - trust) / 5 + trust * facts.count(text) / 2 if facts else 1 / 5
        weights[world.impostor] += chance
    return {colour: weight / sum(weights.values()) for colour, weight in weights.items()}


def test_beliefs_are_those_of_the_sum_over_all_worlds():
    rng, env = generator("heard"), DeductionEnv()
    for task in build_panels(3)["test"][:40]:
        env.reset(task)
        for _ in range(5):
            env.step(env.expert(rng)[1] if rng.random() < 0.9 else "hm")
        world, heard = env.snapshot().world, env.heard()
        for one in world.crew:
            for trust in (0.5, TRUST):
                found = ideal(one, seen(world, one), heard, trust=trust)
                assert found == pytest.approx(by_enumeration(one, seen(world, one), heard, trust))


def test_speaker_models_are_distributions_and_beliefs_sum_to_one():
    for impostor, who in product(COLOURS, COLOURS):
        for trust in (0.0, 0.5, TRUST):
            assert sum(likelihood(impostor, who, text, trust) for text in messages(who)) == pytest.approx(1.0)
    heard = [("green", "pink"), ("white", "blue"), ("pink", "green")]
    assert sum(ideal("red", ("blue", "white"), heard).values()) == pytest.approx(1.0)


def test_what_tells_nothing_changes_nothing():
    pair = ("blue", "white")
    for heard in ([("green", "?!")], [("red", "blue")], [("green", "saw pink ")], [("green", "nobody")]):
        assert ideal("red", pair, heard) == pytest.approx(ideal("red", pair))
    blind = [("green", "blue"), ("white", "nobody")]
    assert ideal("red", pair, blind, trust=0.0) == pytest.approx(ideal("red", pair))


def test_renaming_colours_renames_beliefs_and_nothing_else():
    heard = [("green", "pink"), ("white", "green"), ("pink", "nobody"), ("blue", "white")]
    for names in list(permutations(COLOURS))[::7]:
        called = dict(zip(COLOURS, names, strict=True))
        world = renamed(WORLD, called)
        assert set(seen(world, called["red"])) == {called[colour] for colour in seen(WORLD, "red")}
        facts = [(called[who], " ".join(called.get(word, word) for word in text.split())) for who, text in heard]
        belief = ideal("red", seen(WORLD, "red"), heard)
        other = ideal(called["red"], seen(world, called["red"]), facts)
        assert other == pytest.approx({called[c]: p for c, p in belief.items()})
        assert ideal_win(world, facts) == pytest.approx(ideal_win(WORLD, heard))


# -- votes -----------------------------------------------------------------------------------------------------


def test_ejection_needs_strictly_most_votes():
    assert ejected(["red", "red", "blue", "pink"]) == "red"
    assert ejected(["red", "red", "blue", "blue"]) is None
    assert ejected(["", "", "", "red"]) == "red" and ejected(["", "", "", ""]) is None


def test_win_probabilities_by_hand():
    sure, never = {"white": 1.0}, {"red": 1.0}
    assert win_probability([sure, sure, never, {"pink": 1.0}], "white") == 1.0
    assert win_probability([sure, sure, never, never], "white") == 0.0
    # two sure votes; of the other two voters each names red with 1/2: lost only when both do
    assert win_probability([sure, sure, {"red": 0.5, "white": 0.5}, {"red": 0.5, "pink": 0.5}], "white") == 0.75
    assert most_suspect({"red": 0.4, "blue": 0.4, "pink": 0.2}) == {"red": 0.5, "blue": 0.5, "pink": 0.0}


def random_win() -> float:
    """Everybody votes for one of the four others, equally often: the share of the 256 ballots that are won."""
    ballots = list(product(*([c for c in COLOURS if c != me] for me in WORLD.crew)))
    return sum(ballot.count("white") > max(ballot.count(c) for c in WORLD.crew) for ballot in ballots) / len(ballots)


def test_random_and_lazy_and_informed_players_win_as_often_as_they_must(panels):
    env, rng = DeductionEnv(), generator("random")

    def play(act, tasks: list[Task]) -> float:
        won = 0.0
        for task in tasks:
            observation = env.reset(task)
            while not observation.done:
                observation = env.step(act())
            won += observation.reward
        return won / len(tasks)

    exact = random_win()
    uniform = [{c: 0.25 for c in COLOURS if c != me} for me in WORLD.crew]
    assert win_probability(uniform, "white") == pytest.approx(exact)
    every = [task for split in ("demos", "train", "test") for task in panels[split]]
    assert play(lambda: env.expert(rng)[1], every) == pytest.approx(exact, abs=0.03)
    first = sum(task.data["impostor"] == COLOURS[0] for task in panels["test"]) / len(panels["test"])
    assert play(env.lazy, panels["test"]) == first == pytest.approx(0.2, abs=0.06)
    assert play(env.oracle, panels["test"][:50]) == 1.0


# -- the environment -------------------------------------------------------------------------------------------


def test_the_contract_holds(panels):
    check_env(DeductionEnv(), [*panels["test"][:15], *panels["demos"][:15]])


def test_a_game_word_by_word():
    env, asked = started(), []
    for text in ("pink", "blue", "white", "nobody", "red"):
        asked.append(env.prompt()[0]["content"])
        env.step(text)
    assert asked[0] == "crew Green saw:pink:white . say"
    assert asked[1] == "impostor White . Green:pink . say"
    assert asked[2] == "crew Red saw:blue:white . Green:pink . White:blue . say"
    talk = "Green:pink . White:blue . Red:white . Pink:nobody . Blue:red"
    for voter in ("green", "red", "pink", "blue"):  # no voter sees a vote, the impostor has none
        assert env.player() == voter
        text = env.prompt()[0]["content"]
        assert text.startswith(f"crew {voter.title()} saw:") and text.endswith(f" . {talk} . vote")
        last = env.step("white" if voter != "pink" else "red")
    assert (last.reward, last.terminated) == (1.0, True)
    env.restore(env.snapshot())
    assert env.asked("red", "vote", after=1)[0]["content"].endswith("saw:blue:white . Green:pink . vote")


def test_crew_members_never_see_what_they_should_not(panels):
    """A crew member's prompts are the same in all worlds that agree with what it saw and heard."""
    env = DeductionEnv()
    for task in panels["test"][:10]:
        world, shown = from_data(task.data), set()
        me = world.crew[0]
        alike = [w for w in worlds() if seen(w, me) == seen(world, me)]
        assert {w.impostor for w in alike} == set(seen(world, me)) and len(alike) == 2 * 27
        for other in alike:
            env.reset(Task("o", "deduction-v1", "test", task.data | to_data(other)))
            for text in ("nobody", "pink"):
                env.step(text)
            shown.add(env.asked(me, "vote")[0]["content"])
        assert len(shown) == 1, "a crew member can tell worlds apart that it must not"


def test_roles_and_what_others_hear():
    env = started()
    assert role_of(env.prompt()) == CREW
    env.step("I think that\nit was  white, honestly é")
    assert env.heard() == [("green", "I think that")] and role_of(env.prompt()) == IMPOSTOR
    assert said_aloud("é\n\nx ") == "? x" and len(said_aloud("y" * 99)) == SHOWN
    env.step("")
    assert env.prompt()[0]["content"].count(" . ") == 3


def test_junk_votes_count_for_nobody():
    env = started()
    for text in ["nobody"] * 5 + ["white", "eject red", "red red", ""]:
        last = env.step(text)
    assert last.reward == 1.0 and env.snapshot().votes == ("white", "", "", "")
    with pytest.raises(RuntimeError, match="episode of task t is over"):
        env.step("white")


# -- panels and demonstrations ---------------------------------------------------------------------------------


def test_panels_share_no_game_and_repeat_byte_for_byte(panels):
    def blob(made: dict[str, list[Task]]) -> str:
        return json.dumps({k: list(map(asdict, v)) for k, v in made.items()}, sort_keys=True)

    assert {k: len(v) for k, v in panels.items()} == {"test": 400, "validation": 200, "train": 1000, "demos": 800}
    every = [(from_data(t.data), tuple(t.data["order"])) for tasks in panels.values() for t in tasks]
    assert len(set(every)) == len(every)
    assert {t.data["turns"] for t in panels["demos"]} == set(range(6))
    assert {t.data["turns"] for split in ("test", "validation", "train") for t in panels[split]} == {5}
    assert Counter(t.data["impostor"] for t in panels["train"]).most_common()[-1][1] > 90
    assert blob(build_panels(0)) == blob(panels) != blob(build_panels(1))


def test_demonstrators_know_the_language_and_not_the_game(panels):
    env, rng = DeductionEnv(), generator("experts")
    true = crew_messages = right = votes = named_nobody = impostor_messages = 0
    for task in panels["demos"] * 3:
        observation, world = env.reset(task), from_data(task.data)
        while not observation.done:
            who, talking = env.player(), env.prompt()[0]["content"].endswith("say")
            action, meant = env.expert(rng)
            assert action == meant and action in env.actions()
            facts = true_messages(seen(world, who))
            if not talking:
                votes, right = votes + 1, right + (action == world.impostor)
            elif who == world.impostor:
                impostor_messages, named_nobody = impostor_messages + 1, named_nobody + (action == "nobody")
            else:
                crew_messages, true = crew_messages + 1, true + (action in facts)
            observation = env.step(action)
    assert right / votes == pytest.approx(0.25, abs=0.02)
    # half is meant to be true; of the rest two of five messages are by chance, and of what is repeated a little more
    assert 0.5 + 0.5 * 2 / 5 - 0.02 < true / crew_messages < 0.76
    assert named_nobody / impostor_messages == pytest.approx(1 / 5, abs=0.05)  # an impostor says anything


def test_every_prompt_fits_the_context_whatever_is_said(panels):
    chosen = settings_for("deduction-v1", "cpu")
    examples = demonstrations(DeductionEnv(), panels["demos"][:400], seed=0, repeats=1)
    texts = [f"{e.prompt[0]['content']} {e.completion}" for e in examples]
    tokenizer = train_tokenizer(texts, chosen.vocab, split_digits=chosen.split_digits)
    encode("t", tokenizer, [e.prompt for e in examples], [e.completion for e in examples], max_length=chosen.context)
    for colour in COLOURS:  # who speaks and who is named are one token each, and not the same one
        ids = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in (f" {colour.title()}", colour)]
        assert [len(one) for one in ids] == [1, 1] and ids[0] != ids[1]
    env = started()
    for _ in range(5):
        env.step("~^" * 20)
    [longest], _ = encode("t", tokenizer, [env.prompt()], ["x"], max_length=chosen.context)
    assert len(longest) + 24 <= chosen.context
