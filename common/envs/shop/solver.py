"""Exact values of a shop, in closed form, for the steps that are left.

Every purchase is reached by a known number of clicks, so a state is described by its *frontier*:
F[n] = the best reward that exactly n actions (the purchase included, n ≥ 1) can earn, 0 where none.
With h steps left before truncation, V*(state) = max over n ≤ h of γ^(n−1)·F[n]: acting now for
reward r is worth r. Because the step limit is inside the formula, V* is attainable from every state.

Frontiers, for a goal (i an item, c its chosen options, q a query, p a page number, S the search page):

    buy(i, c)[n] = best reward of i when n−1 of its option groups are changed first
    A(q, p)[n]   = max over items i on the page of buy(i, nothing chosen)[n]
    results(q, p)[n] = max( max over pages p' of A(q, p')[n−1−|p'−p|],  S[n−1] )
    S[n]         = max over listed queries q of max over p' of A(q, p')[n−2−p']
    item(i, c)[n] = max( buy(i, c)[n], results(q, p)[n−1], S[n−1] )

Detours (reopening an item, leaving and coming back) only add clicks, so they need no term of their own.
At a search page the value is over the *listed* queries; a free-text query can in principle beat it.
After any query, listed or not, the value is exact.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import product as combinations
from typing import TYPE_CHECKING

from common.envs.shop.products import Goal
from common.envs.shop.scoring import ItemScore, PurchaseScorer

if TYPE_CHECKING:
    from common.envs.shop.engine import ShopState

Frontier = list[float]
CACHED_GOALS = 4096


class _Tables:
    """What has been worked out for one goal."""

    def __init__(self) -> None:
        self.untouched: dict[int, Frontier] = {}
        self.pages: dict[str, list[Frontier]] = {}
        self.start: Frontier | None = None
        self.states: dict[tuple, Frontier] = {}


class Solver:
    """V* over one catalogue, cached per goal (least recently used goals are dropped)."""

    def __init__(
        self,
        scorer: PurchaseScorer,
        search: Callable[[str], tuple[int, ...]],
        gamma: float,
        max_steps: int,
        page_size: int,
    ) -> None:
        if not 0.0 < gamma <= 1.0:
            raise ValueError(f"gamma {gamma} must lie in (0, 1]; 0.95 is the default")
        self._scorer, self._search = scorer, search
        self._max_steps, self._page_size = max_steps, page_size
        self._scale = [0.0] + [gamma**n for n in range(max_steps)]
        self._goals: OrderedDict[Goal, _Tables] = OrderedDict()

    def value(self, state: ShopState) -> float:
        """V*(state) with the remaining steps; 0 for a finished episode."""
        if state.page == "done":
            return 0.0
        frontier, left = self.frontier(state), self._max_steps - state.steps
        return max((self._scale[n] * frontier[n] for n in range(1, left + 1)), default=0.0)

    def frontier(self, state: ShopState) -> Frontier:
        """F[0 … max_steps] of a running state; steps already taken have no part in it."""
        tables = self._tables(state.goal)
        what = (state.page, state.query, state.number, state.item, state.chosen)
        frontier = tables.states.get(what)
        if frontier is None:
            frontier = tables.states[what] = self._frontier(tables, state)
        return frontier

    def _frontier(self, tables: _Tables, state: ShopState) -> Frontier:
        start = self._start(tables, state.goal)
        if state.page == "search":
            return start
        page = self._pages(tables, state.goal, state.query)[state.number]
        results = _best(page, _later(start, 1))
        if state.page == "results":
            return results
        bought = self._buy(tables, state.goal, state.item, state.chosen)
        item = _best(_best(bought, _later(results, 1)), _later(start, 1))
        return item if state.page == "item" else _later(item, 1)

    def _tables(self, goal: Goal) -> _Tables:
        tables = self._goals.get(goal)
        if tables is None:
            tables = self._goals[goal] = _Tables()
            if len(self._goals) > CACHED_GOALS:
                self._goals.popitem(last=False)
        else:
            self._goals.move_to_end(goal)
        return tables

    def _start(self, tables: _Tables, goal: Goal) -> Frontier:
        if tables.start is None:
            best = [0.0] * (self._max_steps + 1)
            for query in goal.queries:
                best = _best(best, _later(self._pages(tables, goal, query)[0], 1))
            tables.start = best
        return tables.start

    def _pages(self, tables: _Tables, goal: Goal, query: str) -> list[Frontier]:
        """Frontier of every result page of ``query``, going back to search left out."""
        frontiers = tables.pages.get(query)
        if frontiers is None:
            hits, size = self._search(query), self._page_size
            opened = []
            for first in range(0, max(len(hits), 1), size):
                best = [0.0] * (self._max_steps + 1)
                for index in hits[first : first + size]:
                    best = _best(best, self._buy(tables, goal, index, None))
                opened.append(_later(best, 1))
            # The best page at any distance is the page itself or the best seen from a neighbour, one click away.
            back, on = list(opened), list(opened)
            for here in range(1, len(opened)):
                back[here] = _best(opened[here], _later(back[here - 1], 1))
                on[-1 - here] = _best(opened[-1 - here], _later(on[-here], 1))
            frontiers = [_best(left, right) for left, right in zip(back, on, strict=True)]
            tables.pages[query] = frontiers
        return frontiers

    def _buy(self, tables: _Tables, goal: Goal, index: int, chosen: tuple[int, ...] | None) -> Frontier:
        if chosen is not None and max(chosen, default=-1) >= 0:
            return _buy_frontier(self._scorer.item(goal, index), chosen, self._max_steps)
        frontier = tables.untouched.get(index)
        if frontier is None:
            item = self._scorer.item(goal, index)
            frontier = _buy_frontier(item, (-1,) * len(item.masks), self._max_steps)
            tables.untouched[index] = frontier
        return frontier


def _later(frontier: Frontier, clicks: int) -> Frontier:
    """The frontier seen ``clicks`` actions earlier."""
    return [0.0] * clicks + frontier[: len(frontier) - clicks] if clicks else frontier


def _best(one: Frontier, other: Frontier) -> Frontier:
    return [a if a >= b else b for a, b in zip(one, other, strict=True)]


def _buy_frontier(item: ItemScore, chosen: tuple[int, ...], max_steps: int) -> Frontier:
    """buy(i, c): every way of keeping or changing each option group, by number of changes."""
    best = [0.0] * (max_steps + 1)
    if item.factor == 0.0:
        return best
    kept = [values[k] if k >= 0 else 0 for values, k in zip(item.masks, chosen, strict=True)]
    ways = [[(0, mask), *((1, other) for other in set(values))] for values, mask in zip(item.masks, kept, strict=True)]
    for way in combinations(*ways):
        clicks, mask = 1, 0
        for cost, part in way:
            clicks += cost
            mask |= part
        if clicks <= max_steps:
            best[clicks] = max(best[clicks], item.reward(mask))
    return best
