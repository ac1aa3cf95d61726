"""A language model as the policy and the critic of rollouts and tree search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from common import ranks
from common.lm.decode import check_sampling
from common.lm.engine import Engine
from common.types import Cost, Message, Turn


def divided(engine: Engine, prompts: Sequence[Sequence[Message]], ask: Callable[[list[int]], list]) -> list:
    """Answer ``prompts`` with the work divided over the processes of :mod:`common.ranks`: ``ask(indices of prompts)`` gives one
    answer for each; every process gets all answers, in the order of the prompts.

    ``engine`` has the same weights on every rank, so an answer that depends on weights, prompt and key alone is that of
    one process, up to rounding. Equal prompts go to one rank: it reads them once, and ``engine.cost`` ends as that of one
    process, but for ``seconds``, those of the slowest rank.
    """
    if ranks.world_size() == 1:
        return ask(list(range(len(prompts))))
    names = [tuple((message["role"], message["content"]) for message in prompt) for prompt in prompts]
    mine = set(ranks.share(list(dict.fromkeys(names))))
    before, engine.cost = engine.cost, Cost()
    asked = [i for i, name in enumerate(names) if name in mine]
    gathered = ranks.all_gather((asked, ask(asked) if asked else [], engine.cost))
    spent = sum((cost for _, _, cost in gathered), Cost())
    engine.cost = before + replace(spent, seconds=max(cost.seconds for _, _, cost in gathered))
    answers_by_prompt = {i: answer for numbers, answers, _ in gathered for i, answer in zip(numbers, answers, strict=True)}
    return [answers_by_prompt[i] for i in range(len(prompts))]


@dataclass
class LMPolicy:
    """Proposes by sampling and critiques by asking the same model whether an action is good.

    ``temperature`` 0 acts greedily. The critique is P(yes) ∈ [0, 1], see :meth:`Engine.judge`. ValueError for settings with
    which nothing can be sampled.
    """

    engine: Engine
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 24
    question: str = "good?"
    """What the critic is asked about an action; nano policies were warm-started with this one."""

    def __post_init__(self) -> None:
        check_sampling(self.temperature, self.top_p, self.max_new_tokens)
        # a policy's answers repeat to the last bit, whatever its engine was asked before: a unit that is resumed
        # gives the numbers of one that was never stopped
        if isinstance(self.engine, Engine):
            self.engine.forget()

    def propose(self, prompts: list[tuple[Message, ...]], keys: list[int], n: int) -> list[list[Turn]]:
        def ask(some: list[int]) -> list[list[Turn]]:
            return self.engine.sample([prompts[i] for i in some], [keys[i] for i in some], n=n, top_p=self.top_p,
                                      temperature=self.temperature, max_new_tokens=self.max_new_tokens)  # fmt: skip

        return divided(self.engine, prompts, ask)

    def critique(self, prompts: list[tuple[Message, ...]], actions: list[list[str]]) -> list[list[float]]:
        def ask(some: list[int]) -> list[list[float]]:
            return self.engine.judge([prompts[i] for i in some], [actions[i] for i in some], question=self.question)

        return divided(self.engine, prompts, ask)
