"""MiniGrid: planes by hand, episodes that repeat exactly, the package's expert, and the message without it."""

from __future__ import annotations

from importlib import metadata
from statistics import fmean

import numpy as np
import pytest

from common.envs import PanelError, data_hash, load_panel, make
from common.envs.minigrid import PLANES, SIDE, _observe, package
from common.rng import generator

ENV = "minigrid-unlock-v1"
LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE = range(6)


@pytest.fixture
def env():
    pytest.importorskip("minigrid", reason="minigrid is not installed: pip install -e '.[minigrid]'")
    return make(ENV, "data")


def plane(planes: np.ndarray, name: str) -> np.ndarray:
    return planes[PLANES.index(name)]


def test_planes_say_what_lies_where(env):
    from minigrid.core.constants import OBJECT_TO_IDX, STATE_TO_IDX

    image = np.full((SIDE, SIDE, 3), 0, dtype=np.uint8)
    image[..., 0] = OBJECT_TO_IDX["empty"]
    image[2, 5] = OBJECT_TO_IDX["key"], 4, 0  # third from the left, in the row before the agent's
    image[6, 0] = OBJECT_TO_IDX["door"], 0, STATE_TO_IDX["locked"]
    image[0, 0, 0] = OBJECT_TO_IDX["unseen"]
    planes = _observe(image)
    assert planes.shape == (len(PLANES), SIDE, SIDE) and planes.sum() == 3
    assert plane(planes, "key")[5, 2] and plane(planes, "door locked")[0, 6] and plane(planes, "unseen")[0, 0]


def test_an_episode_is_its_seed_and_its_actions(env):
    other = make(ENV, "data")
    for seed in (3, 4, 2**32 - 1):
        rng, frames = generator("minigrid", seed), [env.reset(seed)]
        actions = []
        while len(frames) == 1 or not frame.done:  # noqa: F821
            actions.append(int(rng.integers(6)))
            frame = env.step(actions[-1])
            frames.append(frame.planes)
            assert frame.reward == float(frame.terminated)
        other.reset(5)
        other.step(FORWARD)
        assert (other.reset(seed) == frames[0]).all()
        for action, seen in zip(actions, frames[1:], strict=True):
            assert (other.step(action).planes == seen).all()
    assert frame.truncated and len(actions) == env.max_steps == 64
    with pytest.raises(RuntimeError, match="call reset first"):
        env.step(FORWARD)
    env.reset(0)
    with pytest.raises(IndexError, match="must be 0 to 5"):
        env.step(6)


def test_the_expert_opens_the_door_whatever_is_done_in_between_and_chance_does_not(env):
    found: dict[str, list[float]] = {"expert": [], "slipping": [], "random": []}
    steps = []
    for name, slips in (("expert", 0.0), ("slipping", 0.3), ("random", 1.0)):
        for seed in range(40):
            rng, taken = generator("players", name, seed), 0
            env.reset(seed)
            while True:
                frame = env.step(int(rng.integers(6)) if rng.random() < slips else env.expert())
                taken += 1
                if frame.done:
                    break
            found[name].append(frame.reward)
            if name == "expert":
                steps.append(taken)
    assert fmean(found["expert"]) == 1.0 and fmean(found["slipping"]) >= 0.9 and fmean(found["random"]) <= 0.1 and 8 < fmean(steps) < 20


def test_a_key_that_is_carried_is_seen_where_the_agent_stands(env):
    seen = env.reset(1)
    while env.expert() != PICKUP:
        seen = env.step(env.expert()).planes
    assert plane(seen, "key")[SIDE - 2, SIDE // 2] and not plane(seen, "key")[SIDE - 1, SIDE // 2]
    seen = env.step(PICKUP).planes
    assert plane(seen, "key")[SIDE - 1, SIDE // 2] and not plane(seen, "key")[SIDE - 2, SIDE // 2]


def test_panels_share_no_episode(env):
    panels = {name: {task.data["seed"] for task in load_panel("data", f"{ENV}/{name}")} for name in ("validation", "test")}
    assert {name: len(seeds) for name, seeds in panels.items()} == {"validation": 300, "test": 300} and not panels["validation"] & panels["test"]
    assert data_hash("data", ENV) == data_hash("elsewhere", ENV)


def test_without_the_package_the_message_names_the_next_step(monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    package.cache_clear()
    monkeypatch.setattr(metadata, "version", absent)
    with pytest.raises(FileNotFoundError, match=r"need minigrid 3.2.0, .* but it is absent; run: pip install -c requirements.lock -e '.\[minigrid\]'"):
        make(ENV, "data")
    with pytest.raises(PanelError, match="need minigrid"):
        load_panel("data", f"{ENV}/test")
    package.cache_clear()
