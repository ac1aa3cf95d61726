"""WebEvolver: training rows from trajectories, dreams (trajectories imagined by a world model), and measures of both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from common.envs.shop.reading import goal_of
from common.evaluate.foresight import Forecast
from common.evaluate.rollouts import summarise
from common.learn.batches import SFTExample
from common.policy import Policy, propose
from common.rng import derive
from common.search.reader import Reader
from common.search.transitions import Transition, Tried
from common.types import Trajectory
from papers.webevolver.judges import DONE, Judge
from papers.webevolver.lookahead import Seen, World, foresee


# -- 1. rows of training, from trajectories ----------------------------------------------------------------------------


def accepted_rows(episodes: Sequence[Trajectory]) -> list[SFTExample]:
    """Training rows for p(a_t | o_t) of the episodes that succeed, cut turns left out."""
    return [SFTExample(s.prompt, s.turn.text) for e in episodes if e.success for s in e.steps if s.turn.finished]


def world_rows(episodes: Sequence[Trajectory], reader: Reader) -> list[SFTExample]:
    """Training rows for p(o_{t+1} | o_t, a_t) of all episodes, each distinct transition once; ends by the step limit are left out."""
    after = {(s.prompt[-1]["content"], s.turn.text): reader.shown(s.observation) for e in episodes for s in e.steps
             if s.turn.finished and not s.observation.truncated}  # fmt: skip
    return [SFTExample(reader.question(prompt, action), reader.written(prompt, action, page)) for (prompt, action), page in after.items()]


# -- 2. dreams: trajectories inside a world model ----------------------------------------------------------------------


def unsolved(episodes: Sequence[Trajectory]) -> list[Seen]:
    """The first state of every task that none of ``episodes`` solved, in the order of their first episode."""
    solved = {episode.task_id for episode in episodes if episode.success}
    firsts = {episode.task_id: episode.steps[0].prompt for episode in reversed(episodes)}
    order = dict.fromkeys(episode.task_id for episode in episodes)
    return [Seen(firsts[task]) for task in order if task not in solved]


def dreams(
    starts: Sequence[Seen], policy: Policy, world: World, *, attempts: int, steps: int, seed: int
) -> list[list[Seen]]:
    """``attempts`` imagined episodes from each start, of at most ``steps`` actions; ``world`` gives all next states."""
    starts = [start for start in starts for _ in range(attempts)]
    keys = [derive(seed, "dream", goal_of(start.prompt[-1]["content"]), i) for i, start in enumerate(starts)]
    turns = [turn for [turn] in propose(policy, [start.prompt for start in starts], keys, 1)]
    able = [i for i, turn in enumerate(turns) if turn.finished]
    return foresee(world, policy, [starts[i] for i in able], [turns[i].text for i in able], [keys[i] for i in able],
                   depth=steps)  # fmt: skip


def accepted(path: Sequence[Seen], judge: Judge) -> bool:
    """Whether a dream ends as the judge says a task should."""
    return path[-1].over and judge(path) == DONE


def dreamt_rows(paths: Sequence[Sequence[Seen]], judge: Judge) -> list[SFTExample]:
    """Training rows for p(a_t | o_t) of the dreams that the judge accepts; pages are imagined, actions are the policy's own."""
    return [SFTExample(state.prompt, after.action) for path in paths if accepted(path, judge)
            for state, after in zip(path, path[1:])]  # fmt: skip


def dream_record(path: Sequence[Seen], judge: Judge) -> dict:
    """JSON-able, to be read by people."""
    return {"prompt": path[0].prompt[-1]["content"], "actions": [state.action for state in path[1:]],
            "pages": [state.text for state in path[1:]], "score": judge(path), "over": path[-1].over}  # fmt: skip


# -- 3. measures -------------------------------------------------------------------------------------------------------


def planned(episodes: Sequence[Trajectory]) -> dict[str, float]:
    """Metrics over the tasks on which policies also look ahead."""
    return {f"planned_{name}": value for name, value in summarise(episodes).items()}


def transitions(episode: Trajectory, reader: Reader) -> list[Transition]:
    """Transitions of an episode, without one that the step limit ended."""
    return [Transition(episode.task_id, s.prompt, Tried(s.turn.text, reader.shown(s.observation))) for s in episode.steps
            if not s.observation.truncated]  # fmt: skip


def meanings(found: Sequence[Forecast], read: Callable[[str, str], str]) -> dict[str, float]:
    """``meaning@d`` for each depth d from 1: share of the states there that mean what the real ones mean.

    ``read(prompt text, state)`` says in a few words what a state means for the task of the forecast's prompt. A
    forecast that ended too early counts as wrong.
    """
    values: dict[int, list[bool]] = {}
    for one in found:
        prompt = one.prompt[-1]["content"]
        for d, real in enumerate(one.real):
            imagined = one.imagined[d] if d < len(one.imagined) else None
            same = imagined is not None and read(prompt, imagined) == read(prompt, real.after)
            values.setdefault(d + 1, []).append(same)
    return {f"meaning@{d}": fmean(same) for d, same in values.items()}
