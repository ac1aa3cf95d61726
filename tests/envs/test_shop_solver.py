"""The closed form of V* and Q* against independent value iteration and Bellman's equation."""

from __future__ import annotations

from functools import lru_cache

import pytest

from common.envs.shop.catalogue import build_catalogue, build_panels
from common.envs.shop.engine import ShopEnv, ShopState
from common.rng import generator
from common.types import Task


def brute_force(env: ShopEnv):
    """V* by plain recursion over the environment's own transitions; nothing of the solver is used.

    What the prompt remembers (visited, recent) is dropped from the memo's key: it changes no transition.
    """

    @lru_cache(maxsize=None)
    def value(state: ShopState) -> float:
        if state.page == "done":
            return 0.0
        return max(q(state, action) for action in env.listed(state))

    def q(state: ShopState, action: str) -> float:
        after = env.after(state, action)
        if after.page == "done":
            return after.reward
        return env.gamma * value(after._replace(visited=(), recent=(), valid=True))

    return lambda state: value(state._replace(visited=(), recent=(), valid=True)), q


@pytest.mark.parametrize(("gamma", "max_steps"), [(0.95, 7), (0.5, 6), (1.0, 5)])
def test_closed_form_equals_value_iteration(gamma, max_steps):
    rows = [row for row in build_catalogue(3, 480) if row["query"] in ("mug", "bowl")][:13]
    assert len(rows) == 13
    env = ShopEnv(rows, gamma=gamma, max_steps=max_steps)
    rng = generator("walks", max_steps)
    compared = 0
    tasks = [Task(f"t{k}", "shop-v1", "t", data) for k, data in enumerate(_goals(rows))]
    for task in tasks[:2]:
        value, q = brute_force(env)
        for _ in range(25):
            env.reset(task)
            while env.actions():
                state, actions = env.snapshot(), env.actions()
                assert env.value(state) == pytest.approx(value(state), abs=1e-12), state
                for action in [*actions, "junk", "search[zeta glazo]"]:
                    assert env.q(state, action) == pytest.approx(q(state, action), abs=1e-12), (state, action)
                    compared += 1
                env.step(actions[int(rng.integers(len(actions)))])
    assert compared > 500


def _goals(rows):
    full = build_panels(build_catalogue(3, 480), 3)
    ids = {row["id"] for row in rows}
    found = [task.data for panel in full.values() for task in panel if task.data["product"] in ids]
    # Several pages of results and few queries keep the recursion small.
    goals = [{**data, "queries": ["mug bowl", data["queries"][0]]} for data in found if len(data["options"]) == 2]
    assert len(goals) >= 2
    return goals


def test_bellman_on_random_states():
    """V* = max over listed actions of Q*, in every state, close to the step limit too."""
    catalogue = build_catalogue(0)
    env = ShopEnv(catalogue)
    rng = generator("bellman")
    for task in build_panels(catalogue, 0)["test"][:60]:
        env.reset(task)
        while env.actions():
            state, actions = env.snapshot(), env.actions()
            assert env.value(state) == pytest.approx(max(env.q(state, action) for action in actions), abs=1e-12)
            assert env.snapshot() is state
            free = "search[quiet red sofa]"
            assert 0.0 <= env.q(state, free) <= 1.0
            env.step(actions[int(rng.integers(len(actions)))] if rng.random() < 0.9 else free)


def test_value_is_attainable_from_every_state():
    """The oracle earns V* from wherever a random player left it, the step limit included."""
    catalogue = build_catalogue(0)
    env = ShopEnv(catalogue, max_steps=8)
    rng = generator("attain")
    for task in build_panels(catalogue, 0)["validation"][:60]:
        env.reset(task)
        for _ in range(int(rng.integers(0, 7))):
            actions = [action for action in env.actions() if action != "click[buy now]"]
            env.step(actions[int(rng.integers(len(actions)))])
        value, scale, earned = env.value(env.snapshot()), 1.0, 0.0
        while env.actions():
            earned = scale * env.step(env.oracle()).reward
            scale *= env.gamma
        assert earned == pytest.approx(value, abs=1e-12)


def test_finished_episodes_are_worth_nothing_and_gamma_is_checked():
    catalogue = build_catalogue(0)
    env = ShopEnv(catalogue)
    env.reset(build_panels(catalogue, 0)["test"][0])
    while env.actions():
        env.step(env.lazy())
    assert env.value(env.snapshot()) == 0.0
    with pytest.raises(ValueError, match="gamma"):
        ShopEnv(catalogue, gamma=1.5)


def test_a_value_that_two_groups_share_does_not_promise_the_unreachable():
    """Only the first group's "small" can be clicked; goals compare values, so one click meets both."""
    rows = [
        {"id": "a1a", "title": "acme mug", "indexed": "acme mug", "category": ["a", "b", "c"], "query": "mug",
         "price": 5, "attributes": ["x"], "options": {"cup": ["small", "tall"], "lid": ["small", "flat"]},
         "nouns": ["mug"]}
    ]  # fmt: skip
    data = {"instruction": "find me x mug", "product": "a1a", "wordings": ["mug"], "attributes": ["x"],
            "options": {"cup": "tall", "lid": "small"}, "price_limit": 10.0, "queries": ["mug"]}  # fmt: skip
    env = ShopEnv(rows)
    env.reset(Task("t", "shop-v1", "t", data))
    value, _ = brute_force(ShopEnv(rows, max_steps=8))
    assert env.value(env.snapshot()) == pytest.approx(value(env.snapshot()), abs=1e-12)
    assert env.value(env.snapshot()) == pytest.approx(0.95**3 * 3 / 4)
