"""Several models as one policy: every prompt reaches its role's model, in order, and costs are counted once."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from common.lm.team import TeamPolicy
from common.types import Cost


@dataclass
class Member:
    name: str
    engine: object = None
    calls: list = field(default_factory=list)

    def propose(self, prompts, keys, n):
        self.calls.append(len(prompts))
        return [[f"{self.name} {prompt[0]['content']} {key} {j}" for j in range(n)]
                for prompt, key in zip(prompts, keys, strict=True)]  # fmt: skip

    def critique(self, prompts, actions):
        return [[len(self.name) + len(action) for action in row] for row in actions]


def prompt(text: str):
    return ({"role": "user", "content": text},)


def team(**members) -> TeamPolicy:
    return TeamPolicy(members, lambda one: one[0]["content"].split()[0])


def test_each_prompt_is_answered_by_its_role_in_the_order_asked():
    a, b = Member("A"), Member("BB")
    found = team(a=a, b=b).propose([prompt("b 1"), prompt("a 2"), prompt("b 3")], [7, 8, 9], 2)
    assert found == [["BB b 1 7 0", "BB b 1 7 1"], ["A a 2 8 0", "A a 2 8 1"], ["BB b 3 9 0", "BB b 3 9 1"]]
    assert (a.calls, b.calls) == ([1], [2])  # one call for each role
    assert team(a=a, b=b).critique([prompt("b"), prompt("a")], [["x"], ["yy", "z"]]) == [[3], [3, 2]]
    assert team(a=a).propose([], [], 3) == []


def test_a_role_without_a_member_is_an_error():
    with pytest.raises(KeyError, match="c"):
        team(a=Member("A")).propose([prompt("c 1")], [1], 1)


def test_a_shared_engine_is_counted_once():
    class Engine:
        def __init__(self, calls: int) -> None:
            self.cost = Cost(lm_calls=calls)

    one, two = Engine(5), Engine(7)
    shared = team(a=Member("A", one), b=Member("B", one), c=Member("C", two))
    assert shared.cost().lm_calls == 12
