"""Judges of pages, real or imagined, one for each world.

The paper lets a language model score simulated trajectories with 0, 0.5 or 1. These read the text of pages as a player would, and
know nothing of the environment's scoring.
"""

from __future__ import annotations

from collections.abc import Sequence

from common.envs.contract import Env
from common.envs.shop.engine import INVALID
from common.envs.shop.lexicon import DEPARTMENTS
from common.envs.shop.products import BUY
from common.envs.shop.reading import goal_of, outcome, page_of
from common.envs.versions.countdown_v1 import CountdownEnv
from common.search.reader import CountdownReader
from common.search.transitions import OVER, is_over
from papers.webevolver.lookahead import Seen

DONE, ON_TRACK, WRONG = 1.0, 0.5, 0.0


class Judge:
    """Scores a path of states by its last one, in the light of the goal."""

    def __call__(self, path: Sequence[Seen]) -> float:
        """:meth:`standing` of the last state of a path, 0 where the path broke off before it was answered."""
        before, last = path[-2:]
        broken = last.over and not is_over(last.text)
        return WRONG if broken else self.standing(before.prompt[-1]["content"], last.action, last.text)

    def standing(self, before: str, action: str, text: str) -> float:
        """What ``text``, the answer to ``action`` in the prompt ``before``, means for the prompt's goal: 1 reached, 0.5 possible, 0 missed."""
        raise NotImplementedError

    def meaning(self, prompt: str, page: str) -> str:
        """What ``page`` means for the goal of ``prompt``, in a few words."""
        raise NotImplementedError


class CountdownJudge(Judge):
    """1: the number left is the target. 0.5: several numbers are left. 0: another number, an invalid step, the step limit."""

    def standing(self, before: str, action: str, text: str) -> float:  # noqa: ARG002
        if is_over(text):
            return DONE if text == f"{OVER} {before.rsplit(' ', 1)[-1]}" else WRONG
        return ON_TRACK if text.startswith("numbers ") else WRONG

    def meaning(self, prompt: str, page: str) -> str:
        return CountdownReader().outcome(prompt, page)


BUYING = f"click[{BUY}]"
TYPES = {kind.synonym: kind.title for aisles in DEPARTMENTS.values() for aisle in aisles for kind in aisle.kinds}
"""What some goals call a type, and what titles call it."""


class ShopJudge(Judge):
    """1: bought, from a page that fits the goal. 0.5: a list of products, or a product that fits or lacks nothing but
    a choice to be made. 0: everything else, such as a product that lacks something or is too dear, the search page
    again, an empty list, an invalid action, a page that broke off, any other purchase or end.

    Like a language model it knows the language: that a pram is a stroller. Everything else that a goal names and a page does not is
    held against the page.
    """

    def standing(self, before: str, action: str, text: str) -> float:
        if text == OVER:
            return DONE if action == BUYING and self.meaning(before, page_of(before)) == "fits" else WRONG
        found = self.meaning(before, text)
        if found == "list":
            return ON_TRACK if text.startswith("page ") else WRONG
        return ON_TRACK if found == "fits" or found.startswith("choose ") else WRONG

    def meaning(self, prompt: str, page: str) -> str:
        """In the words of :func:`~common.envs.shop.reading.outcome`, or ``broken`` for a product's page that no shop shows, as an
        imagined one may be."""
        lines = page.split("\n")
        product = lines[-1].startswith("buy now") and lines[0] != INVALID
        if product and not all(": " in line for line in lines[1:-1]):
            return "broken"
        return outcome(plain(goal_of(prompt)), page)


def plain(goal: str) -> str:
    """``goal`` with its product's type in the word that titles use."""
    ends = [at for mark in (" with ", ", and price lower than ") if (at := goal.find(mark)) >= 0]
    what, rest = goal[: min(ends, default=len(goal))], goal[min(ends, default=len(goal)) :]
    for synonym, title in TYPES.items():
        if f" {what}".endswith(f" {synonym}"):
            return what.removesuffix(synonym) + title + rest
    return goal


def judge_of(env: Env) -> Judge:
    return CountdownJudge() if isinstance(env, CountdownEnv) else ShopJudge()
