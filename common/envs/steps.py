"""Wraps an answer environment so that tasks are solved line by line: an action is one line of a worked solution.

The state is the question and the lines written so far. The episode ends with the line that declares an answer; its
reward is what the environment of whole answers gives to that line alone, 1 or 0. A line that merely computes ("so
3 + 4 = 7") goes on; ``max_steps`` lines that declare nothing are truncated with reward 0. A turn that is empty, of
several lines or longer than :data:`LONGEST` characters is invalid: it costs a step, writes nothing, and the next prompt
says why.

Exact values are those of one who may write the right answer at any time: V* is 1 while a step is left. So Q* tells
right answers (1), lines that go on (γ) and wrong answers (0) apart, and not one line that goes on from another.

Prompts are a dialogue that asks for line after line, behind an instruction and solved tasks in the same form, in our
own words. A changed instruction is a new ``VERSION``: a test holds the words to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from common.envs.answers import GAMMA, AnswerEnv
from common.envs.contract import Snapshot
from common.envs.final_number import announces_number as announces_number  # ``declares`` where answers are numbers
from common.envs.shop.engine import INVALID
from common.types import Message, Observation, Task

VERSION = "steps-1"
INSTRUCTION = """\
Solve the problem step by step. Each time, write the next line of the solution and nothing else: one short step. When \
you know the answer, write it on a line of its own after ####."""
NEXT = "Next line."
LONGEST = 200
"""Most characters of a line."""

Example = tuple[str, tuple[str, ...]]
"""A question and the lines that solve it."""


class StepsState(NamedTuple):
    """Everything that changes in an episode. ``whole`` is the task in the environment of whole answers, ``refused``
    says why the last line was not written, "" where it was."""

    task_id: str
    question: str
    examples: tuple[Example, ...]
    whole: Snapshot
    lines: tuple[str, ...] = ()
    steps: int = 0
    refused: str = ""
    over: bool = False


class StepsEnv:
    """``whole``'s tasks line by line.

    Args:
        whole: reads a task's answer and scores the line that declares one.
        examples: the solved tasks that a task's prompts begin with.
        declares: whether a line declares an answer.
        max_steps: most lines of an episode, refused ones included.
    """

    def __init__(
        self, whole: AnswerEnv, *, id: str, examples: Callable[[Task], Sequence[Example]],
        declares: Callable[[str], bool], max_steps: int,
    ) -> None:  # fmt: skip
        self.whole, self.id, self.examples, self.declares = whole, id, examples, declares
        self.max_steps, self.gamma = max_steps, GAMMA

    def reset(self, task: Task, seed: int = 0) -> Observation:
        self.whole.reset(task)
        question = task.data["question"]
        self._state = StepsState(task.id, question, tuple(self.examples(task)), self.whole.snapshot())
        return Observation(question)

    def step(self, action: str) -> Observation:
        state, line = self._state, action.strip()
        if state.over:
            raise RuntimeError(f"{self.id}: the episode of task {state.task_id} is over; call reset or restore first")
        refused, lines = refusal(line), state.lines
        declared = not refused and self.declares(line)
        if not refused:
            lines = (*lines, line)
        steps = state.steps + 1
        over = declared or steps == self.max_steps
        self._state = state._replace(lines=lines, steps=steps, refused=refused, over=over)
        if declared:
            self.whole.restore(state.whole)
            return Observation("", reward=self.whole.score(line), terminated=True)
        return Observation(refused or ("" if over else NEXT), truncated=over)

    def actions(self) -> list[str]:
        """The answers that end the episode as well and as badly as can be: lines are free text."""
        return [] if self._state.over else [self.oracle(), self.lazy()]

    def prompt(self) -> tuple[Message, ...]:
        state = self._state
        messages = [{"role": "system", "content": INSTRUCTION}]
        for question, lines in state.examples:
            messages += _dialogue(question, lines)[:-1]
        messages += _dialogue(state.question, state.lines)
        if state.refused:
            messages[-1] = {"role": "user", "content": f"{messages[-1]['content']}\n{state.refused}"}
        return tuple(messages)

    def snapshot(self) -> StepsState:
        return self._state

    def restore(self, snapshot: StepsState) -> None:
        self._state = snapshot

    def value(self, snapshot: StepsState) -> float:
        return float(not snapshot.over)

    def q(self, snapshot: StepsState, action: str) -> float:
        here, self._state = self._state, snapshot
        try:
            observation = self.step(action)
            return observation.reward if observation.done else self.gamma * self.value(self._state)
        finally:
            self._state = here

    def oracle(self) -> str:
        self.whole.restore(self._state.whole)
        return self.whole.oracle()

    def lazy(self) -> str:
        self.whole.restore(self._state.whole)
        return self.whole.lazy()


def _dialogue(question: str, lines: Sequence[str]) -> list[Message]:
    """Question and lines by turns; ends with the request for the next line."""
    messages = [{"role": "user", "content": question}]
    for line in lines:
        messages += [{"role": "assistant", "content": line}, {"role": "user", "content": NEXT}]
    return messages


def refusal(line: str) -> str:
    """Why a turn is no line of a solution; "" where it is one."""
    if not line:
        return f"{INVALID}: the line is empty; write one step"
    if "\n" in line:
        return f"{INVALID}: these are {len(line.splitlines())} lines; write the next one alone"
    if len(line) > LONGEST:
        return f"{INVALID}: the line has {len(line)} characters; write at most {LONGEST}"
    return ""
