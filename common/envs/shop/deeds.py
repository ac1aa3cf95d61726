"""What actions in a numbered shop get done, and what things are called there, in words that hold for other goals too. Only prompts are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from common.envs.shop.products import BACK, BUY, NEXT, PREV, words
from common.envs.shop.reading import goal_of, outcome, page_of, wanted

CLICK, SEARCH = "click[", "search["


def did(prompt: str) -> str:
    """What a prompt says was done last: ``search``, ``product`` whatever its number, the target of another click, or the answer to an
    inadmissible action; "" at the start."""
    second = prompt.split("\n")[1]
    last = second.removeprefix("did: ") if second.startswith("did: ") else ""
    return "product" if last.isdigit() else last


def shared(action: str) -> bool:
    """Whether ``action`` means the same for other goals. A search has the words of its goal, and a number is that of a product on one list."""
    return not action.startswith(SEARCH) and not action.removeprefix(CLICK)[:-1].isdigit()


def deed(action: str) -> str:
    """The option value that ``action`` chooses, or the purchase; "" for what only leads to another page."""
    target = action.removeprefix(CLICK)[:-1]
    return target if shared(action) and target not in (PREV, NEXT, BACK) else ""


def called(page: str) -> str:
    """What a product's page calls it: the last word of its title, the kind of thing."""
    return words(page.split("\n")[0].partition(" $")[0])[-1]


def names(demonstrated: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """What titles call a thing → the words that goals use for it instead, from (prompt, action): the words at the end of a goal that the
    page of a product lacks which is bought all the same."""
    found: dict[str, set[str]] = {}
    for prompt, action in demonstrated:
        wants, page = wanted(goal_of(prompt))[0], page_of(prompt)
        missing = [word for word in wants if word not in words(page)]
        if deed(action) == BUY and missing and wants[-len(missing) :] == missing:
            found.setdefault(called(page), set()).update(missing)
    return found


def state(prompt: str, known: Mapping[str, set[str]]) -> str:
    """What a prompt's page means for its goal, to one who has ``known`` other names of things (:func:`common.envs.shop.reading.outcome`)."""
    title, *rest = page_of(prompt).split("\n")
    return outcome(goal_of(prompt), "\n".join([title, *(f"about: {word}" for word in sorted(known.get(called(title), ()))), *rest]))


def start(prompt: str) -> str:
    """The prompt of the same goal before anything is done."""
    return f"goal: {goal_of(prompt)}\nsearch page"
