"""The first wrong action of an episode, on a line of five squares whose last one is the goal."""

import pytest

from common.envs.first_error import first_error
from common.types import Observation, Task

TASK = Task("line/0", "line", "test", {})


class Line:
    """Start on square 2 of 0 … 4; square 4 pays 1 and square 0 pays 0.1; "wait" passes a step; the limit is 6."""

    id, gamma, max_steps = "line", 0.9, 6

    def reset(self, task, seed=0):
        self.state = (2, 0)
        return Observation("")

    def snapshot(self):
        return self.state

    def step(self, action):
        if self.over:
            raise RuntimeError("over")
        at, steps = self.state
        self.state = (at + {"on": 1, "back": -1, "wait": 0}[action], steps + 1)
        pays = {4: 1.0, 0: 0.1}.get(self.state[0], 0.0)
        return Observation("", pays, terminated=self.state[0] in (0, 4), truncated=self.state[1] == 6 and self.state[0] not in (0, 4))

    @property
    def over(self):
        return self.state[0] in (0, 4) or self.state[1] == 6

    def value(self, state):
        at, steps = state
        return max((pay * self.gamma ** (far - 1) for far, pay in ((4 - at, 1.0), (at, 0.1)) if far <= 6 - steps), default=0.0)


@pytest.mark.parametrize(("actions", "first"), [
    ("on on", None), ("wait on on", None), ("back on on on", 0), ("on back", 1), ("on", None), ("", None),
    ("wait wait wait wait on on", None), ("wait wait wait wait wait", 4),  # no step to spare
    ("wait back back", 1), ("on on back", None),  # what is behind the end is not looked at
    ("back back", 0), ("wait wait wait wait back back", 4),
])  # fmt: skip
def test_the_first_action_after_which_less_can_be_reached(actions, first):
    assert first_error(Line(), TASK, actions.split()) == first
