"""WebEvolver: training rows from trajectories, dreams (trajectories imagined by a world model), and the judge of imagined
pages.

The paper lets a language model score simulated trajectories with 0, 0.5 or 1. This judge reads the text of pages, real
or imagined, as a player would, and knows nothing of the environment's scoring. Like a language model it knows the
language: that a pram is a stroller. Everything else that a goal names and a page does not is held against the page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from common.envs.shop.engine import INVALID
from common.envs.shop.lexicon import DEPARTMENTS
from common.envs.shop.products import BUY
from common.envs.shop.reading import goal_of, outcome, page_of
from common.envs.shop.shorthand import question, short, touched, untouched
from common.evaluate.foresight import Forecast
from common.evaluate.rollouts import summarise
from common.learn.batches import SFTExample
from common.policy import Policy, propose
from common.rng import derive
from common.search.transitions import OVER, Transition, Tried, shown
from common.types import Trajectory
from papers.webevolver.lookahead import Seen, World, foresee


# -- 1. rows of training, from trajectories ----------------------------------------------------------------------------


def accepted_rows(episodes: Sequence[Trajectory]) -> list[SFTExample]:
    """Training rows for p(a_t | o_t) of the episodes that succeed, cut turns left out."""
    return [SFTExample(s.prompt, s.turn.text) for e in episodes if e.success for s in e.steps if s.turn.finished]


def world_rows(episodes: Sequence[Trajectory], *, blind: bool = False) -> list[SFTExample]:
    """Training rows for p(o_{t+1} | o_t, a_t) of all episodes, each distinct transition once; ends by the step limit are left out.

    ``blind``: the page is not shown.
    """
    view = untouched if blind else touched
    after = {(s.prompt[-1]["content"], s.turn.text): shown(s.observation) for e in episodes for s in e.steps
             if s.turn.finished and not s.observation.truncated}  # fmt: skip
    return [SFTExample(question(prompt, action, view), short(page_of(prompt), action, text))
            for (prompt, action), text in after.items()]  # fmt: skip


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


def accepted(path: Sequence[Seen]) -> bool:
    """Whether a dream ends in a purchase that the judge accepts."""
    return path[-1].over and judge(path) == DONE


def dreamt_rows(paths: Sequence[Sequence[Seen]]) -> list[SFTExample]:
    """Training rows for p(a_t | o_t) of the dreams that the judge accepts; pages are imagined, actions are the policy's own."""
    return [SFTExample(state.prompt, after.action) for path in paths if accepted(path)
            for state, after in zip(path, path[1:])]  # fmt: skip


def dream_record(path: Sequence[Seen]) -> dict:
    """JSON-able, to be read by people."""
    return {"prompt": path[0].prompt[-1]["content"], "actions": [state.action for state in path[1:]],
            "pages": [state.text for state in path[1:]], "score": judge(path), "over": path[-1].over}  # fmt: skip


# -- 3. the judge ------------------------------------------------------------------------------------------------------

BUYING = f"click[{BUY}]"
DONE, ON_TRACK, WRONG = 1.0, 0.5, 0.0
TYPES = {kind.synonym: kind.title for aisles in DEPARTMENTS.values() for aisle in aisles for kind in aisle.kinds}
"""What some goals call a type, and what titles call it."""


def plain(goal: str) -> str:
    """``goal`` with its product's type in the word that titles use."""
    ends = [at for mark in (" with ", ", and price lower than ") if (at := goal.find(mark)) >= 0]
    what, rest = goal[: min(ends, default=len(goal))], goal[min(ends, default=len(goal)) :]
    for synonym, title in TYPES.items():
        if f" {what}".endswith(f" {synonym}"):
            return what.removesuffix(synonym) + title + rest
    return goal


def meaning(prompt: str, page: str) -> str:
    """What ``page`` means for the goal of ``prompt``, in the words of :func:`~common.envs.shop.reading.outcome`, or
    ``broken`` for a product's page that no shop shows, as an imagined one may be."""
    lines = page.split("\n")
    product = lines[-1].startswith("buy now") and lines[0] != INVALID
    if product and not all(": " in line for line in lines[1:-1]):
        return "broken"
    return outcome(plain(goal_of(prompt)), page)


def standing(before: str, action: str, text: str) -> float:
    """What ``text``, the answer to ``action`` in the prompt ``before``, means for the prompt's goal.

    1: bought, from a page that fits the goal. 0.5: a list of products, or a product that fits or lacks nothing but
    a choice to be made. 0: everything else, such as a product that lacks something or is too dear, the search page
    again, an empty list, an invalid action, a page that broke off, any other purchase or end.
    """
    if text == OVER:
        return DONE if action == BUYING and meaning(before, page_of(before)) == "fits" else WRONG
    found = meaning(before, text)
    if found == "list":
        return ON_TRACK if text.startswith("page ") else WRONG
    return ON_TRACK if found == "fits" or found.startswith("choose ") else WRONG


def judge(path: Sequence[Seen]) -> float:
    """:func:`standing` of the last state of a path, 0 where the path broke off before it was answered."""
    before, last = path[-2:]
    broken = last.over and last.text != OVER
    return WRONG if broken else standing(before.prompt[-1]["content"], last.action, last.text)


# -- 4. measures -------------------------------------------------------------------------------------------------------


def planned(episodes: Sequence[Trajectory]) -> dict[str, float]:
    """Metrics over the tasks on which policies also look ahead."""
    return {f"planned_{name}": value for name, value in summarise(episodes).items()}


def transitions(episode: Trajectory) -> list[Transition]:
    """Transitions of an episode, without one that the step limit ended."""
    return [Transition(episode.task_id, s.prompt, Tried(s.turn.text, shown(s.observation))) for s in episode.steps
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
