"""The shop as an environment: pages, buttons, and the contract of ``common.envs.contract``.

Pages and what can be done on them::

    search    search[free text]                       (the listed queries are suggestions)
    results   click[<product id>]  click[next >]  click[< prev]  click[back to search]
    item      click[<option value>]  click[buy now]  click[< prev]  click[back to search]
              and click[features], click[description] in shops that have such pages
    features, description                              click[< prev]

Choosing a value replaces the group's earlier choice; leaving the item page forgets the choices.
An inadmissible action costs a step, changes nothing else and is answered with ``INVALID``.
Buying terminates with the reward; ``max_steps`` actions without buying truncate with reward 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from common.envs.shop.index import Index
from common.envs.shop.products import BACK, BUY, DETAILS, NEXT, PREV, Goal, Product
from common.envs.shop.scoring import PurchaseScorer
from common.envs.shop.solver import Solver
from common.types import Message, Observation, Task

INVALID = "invalid action"
PAGE_SIZE = 10
ERROR_RATE = 0.2
"""Error rate of the noisy demonstrator: chance of another listed click at a step."""
RECENT = 3
"""Actions that the prompt repeats."""
RECENT_WORDS = 8
"""Words of a repeated search query in the prompt; the rest is cut."""
MAX_QUERY_WORDS = 64



class ShopState(NamedTuple):
    """Everything that changes in an episode. ``page`` is a page name or "done"; ``number`` counts result
    pages from 0; ``chosen`` holds a value index or −1 per option group; ``visited`` the opened products,
    ``recent`` the last actions as the prompt shows them."""

    goal: Goal
    page: str = "search"
    query: str = ""
    number: int = 0
    item: int = -1
    chosen: tuple[int, ...] = ()
    visited: tuple[int, ...] = ()
    recent: tuple[str, ...] = ()
    steps: int = 0
    valid: bool = True
    reward: float = 0.0
    truncated: bool = False


def _shorten(text: str, limit: int) -> str:
    """The first ``limit`` words of ``text`` (all of it for limit 0), with a mark where it was cut."""
    parts = text.split()
    return text if not limit or len(parts) <= limit else " ".join(parts[:limit]) + " ..."


class ShopEnv:
    """One shop. ``products`` are catalogue rows (dicts, see ``Product.from_json``) or Products.

    ``detail_pages`` adds the features and description pages and hides attributes from the item page,
    as WebShop has it; ``title_words`` and ``page_words`` shorten titles on result pages and texts on
    the other pages (0: not at all). ``page_size`` products a result page.
    ``numbered`` labels the products of a page 1, 2, … instead of by id and the history is the last
    action alone, without a query's words: short prompts for nano models.
    """

    def __init__(
        self,
        products: Sequence[dict[str, Any] | Product],
        env_id: str = "shop-v1",
        *,
        gamma: float = 0.95,
        max_steps: int = 15,
        detail_pages: bool = False,
        title_words: int = 0,
        page_words: int = 0,
        page_size: int = PAGE_SIZE,
        numbered: bool = False,
    ) -> None:
        if not products:
            raise ValueError(f"{env_id}: the catalogue is empty; build or fetch it first")
        self.id, self.gamma, self.max_steps = env_id, gamma, max_steps
        self.products = tuple(p if isinstance(p, Product) else Product.from_json(p) for p in products)
        self.scorer = PurchaseScorer(self.products)
        self._index = Index(self.products)
        self.search = self._index.search
        self.solver = Solver(self.scorer, self.search, gamma, max_steps, page_size)
        self.detail_pages, self._page_words = detail_pages, page_words
        self.page_size, self.numbered = page_size, numbered
        self._between = " " if numbered else ", "
        self._ids = {product.id.lower(): index for index, product in enumerate(self.products)}
        if len(self._ids) < len(self.products):
            raise ValueError(f"{env_id}: product ids repeat; every product needs its own id")
        self._lines = [f"{_shorten(p.title, title_words)} {_money(p.price)}" for p in self.products]
        self._choices = [product.choices() for product in self.products]
        self._results_text = lru_cache(maxsize=65_536)(self._render_results)
        self._item_text = lru_cache(maxsize=65_536)(self._render_item)
        self._listed = lru_cache(maxsize=65_536)(self._list_actions)
        self._goals: dict[str, tuple[Task, Goal]] = {}
        self._state: ShopState | None = None

    # ---- the contract ---------------------------------------------------------------------------

    def reset(self, task: Task, seed: int = 0) -> Observation:
        """Start ``task`` at the search page; nothing is random, so ``seed`` has no effect."""
        known = self._goals.get(task.id)
        if known is None or (known[0] is not task and known[0] != task):
            goal = Goal.from_task(task)
            self.scorer.target(goal)
            known = self._goals[task.id] = (task, goal)
        self._state = ShopState(known[1])
        return Observation(self._page(self._state))

    def step(self, action: str) -> Observation:
        """Apply ``action``; RuntimeError when the episode is over or was never begun."""
        state = self._state = self.after(self._current(), action)
        text = self._page(state)
        return Observation(
            text if state.valid else f"{INVALID}\n{text}",
            state.reward,
            terminated=state.page == "done" and not state.truncated,
            truncated=state.truncated,
        )

    def actions(self) -> list[str]:
        """Listed actions of the present state: suggested queries or click targets; empty when it is over."""
        return list(self.listed(self._current()))

    def prompt(self) -> tuple[Message, ...]:
        """One user message: the goal, the last actions, the page."""
        state = self._current()
        recent = f"did: {', '.join(state.recent)}\n" if state.recent else ""
        return ({"role": "user", "content": f"goal: {state.goal.instruction}\n{recent}{self._page(state)}"},)

    def snapshot(self) -> ShopState:
        return self._current()

    def restore(self, snapshot: ShopState) -> None:
        self._state = snapshot

    def value(self, snapshot: ShopState) -> float:
        """V* of a state, exact for the steps that are left (see ``solver``); 0 when it is over."""
        return self.solver.value(snapshot)

    def q(self, snapshot: ShopState, action: str) -> float:
        """Q*: the reward if ``action`` buys, else γ·V* of the next state. Free-text searches too."""
        state = self.after(snapshot, action)
        return state.reward if state.page == "done" else self.gamma * self.solver.value(state)

    def oracle(self) -> str:
        """The first listed action with maximal exact Q."""
        state = self._current()
        return max(self.listed(state), key=lambda action: round(self.q(state, action), 12))

    def lazy(self) -> str:
        """Search the goal's words, open the first product, buy it as it is."""
        state = self._current()
        if state.page == "item":
            return f"click[{BUY}]"
        first = self.listed(state)[0]
        return first if state.page in ("search", "results") else f"click[{PREV}]"

    def expert(self, rng: np.random.Generator) -> tuple[str, str]:
        """(action to imitate, action taken) of a noisy demonstrator. It searches the goal's attributes and type, then
        follows the oracle; at rate :data:`ERROR_RATE` it takes another listed click instead, and half of the time
        it tries the goal's options on a wrong product before it leaves, offered or not. The actions taken lead
        where a policy's own mistakes lead. The oracle knows what the page may hide, so imitation can only be right
        on average."""
        state = self._current()
        if state.page == "search" and not state.recent:
            action = f"search[{' '.join([*state.goal.attributes, state.goal.wordings[0]]).lower()}]"
            return action, action
        action = self.oracle()
        others = [other for other in self.listed(state) if other.startswith("click") and BUY not in other]
        wanted = [f"click[{value.lower()}]" for _, value in state.goal.options]
        if state.page == "item" and action in (f"click[{PREV}]", f"click[{BACK}]") and wanted and rng.random() < 0.5:
            return action, wanted[int(rng.integers(len(wanted)))]
        if others and rng.random() < ERROR_RATE:
            return action, others[int(rng.integers(len(others)))]
        return action, action

    # ---- transitions, as pure functions of the state --------------------------------------------

    def after(self, state: ShopState, action: str) -> ShopState:
        """The state that ``action`` leads to from ``state``; the running episode does not change."""
        if state.page == "done":
            raise RuntimeError(f"{self.id} task {state.goal.id}: the episode is over; call reset before step")
        action = action.strip().lower()
        moved = None
        if action.endswith("]"):
            if action.startswith("click["):
                moved = self._click(state, action[6:-1].strip())
            elif action.startswith("search[") and state.page == "search":
                moved = self._search(state, action[7:-1])
        steps = state.steps + 1
        if moved is None:
            moved = state._replace(recent=self._remember(state, INVALID), steps=steps, valid=False)
        if steps >= self.max_steps and moved.page != "done":
            moved = moved._replace(page="done", truncated=True)
        return moved

    def _remember(self, state: ShopState, action: str) -> tuple[str, ...]:
        return (action,) if self.numbered else (*state.recent, action)[-RECENT:]

    def _search(self, state: ShopState, text: str) -> ShopState | None:
        parts = text.split()[:MAX_QUERY_WORDS]
        if not parts:
            return None
        query = " ".join(parts)
        recent = self._remember(state, "search" if self.numbered else f"search[{_shorten(query, RECENT_WORDS)}]")
        return ShopState(state.goal, "results", query, 0, -1, (), state.visited, recent, state.steps + 1)

    def _click(self, state: ShopState, target: str) -> ShopState | None:
        page, number, item, chosen, visited = state.page, state.number, state.item, state.chosen, state.visited
        query, reward = state.query, 0.0
        if page == "results":
            index = self._labels(query, number).get(target, -1)
            if index >= 0:
                page, item, chosen = "item", index, (-1,) * len(self.products[index].options)
                visited = visited if index in visited else (*visited, index)
            elif target == NEXT and self._has_next(query, number):
                number += 1
            elif target == PREV and number > 0:
                number -= 1
            elif target == BACK:
                page, query, number = "search", "", 0
            else:
                return None
        elif page == "item":
            choice = self._choices[item].get(target)
            if target == BUY:
                page, reward = "done", self.scorer.reward(state.goal, item, chosen)
            elif target == PREV:
                page, item, chosen = "results", -1, ()
            elif target == BACK:
                page, query, number, item, chosen = "search", "", 0, -1, ()
            elif choice is not None:
                group, value = choice
                chosen = (*chosen[:group], value, *chosen[group + 1 :])
            elif self.detail_pages and target in DETAILS:
                page = target
            else:
                return None
        elif page in DETAILS and target == PREV:
            page = "item"
        else:
            return None
        recent = self._remember(state, target if self.numbered else f"click[{target}]")
        return ShopState(state.goal, page, query, number, item, chosen, visited, recent, state.steps + 1, True, reward)

    def listed(self, state: ShopState) -> tuple[str, ...]:
        """The admissible actions of ``state``, in page order."""
        if state.page == "search":
            return tuple(f"search[{query}]" for query in state.goal.queries)
        return self._listed(state.page, state.query, state.number, state.item)

    def shown(self, state: ShopState) -> tuple[int, ...]:
        """Products on the result page of ``state``, in page order."""
        return self._shown(state.query, state.number)

    def _list_actions(self, page: str, query: str, number: int, item: int) -> tuple[str, ...]:
        if page == "results":
            targets = list(self._labels(query, number))
            targets += [NEXT] * self._has_next(query, number) + [PREV] * (number > 0) + [BACK]
        elif page == "item":
            targets = [*self._choices[item], BUY, PREV, BACK, *(DETAILS if self.detail_pages else ())]
        else:
            targets = [PREV] if page in DETAILS else []
        return tuple(f"click[{target}]" for target in targets)

    def _shown(self, query: str, number: int) -> tuple[int, ...]:
        return self.search(query)[number * self.page_size : (number + 1) * self.page_size]

    def _labels(self, query: str, number: int) -> dict[str, int]:
        """Click target to product index, in page order."""
        shown = self._shown(query, number)
        return {str(k + 1) if self.numbered else self.products[i].id.lower(): i for k, i in enumerate(shown)}

    def label(self, state: ShopState, index: int) -> str:
        """The click target of product ``index`` on the result page of ``state``."""
        return next(text for text, i in self._labels(state.query, state.number).items() if i == index)

    def _has_next(self, query: str, number: int) -> bool:
        return len(self.search(query)) > (number + 1) * self.page_size

    def _current(self) -> ShopState:
        if self._state is None:
            raise RuntimeError(f"{self.id}: no episode has begun; call reset first")
        return self._state

    # ---- page texts -----------------------------------------------------------------------------

    def _page(self, state: ShopState) -> str:
        if state.page == "results":
            shown = self._shown(state.query, state.number)
            seen = tuple(index for index in state.visited if index in shown)
            return self._results_text(state.query, state.number, seen)
        if state.page == "item":
            return self._item_text(state.item, state.chosen)
        if state.page == "search":
            return "search page"
        if state.page == "done":
            return "out of steps" if state.truncated else f"bought {self.products[state.item].id}"
        product = self.products[state.item]
        text = " ".join(product.features) if state.page == "features" else product.description
        return f"{state.page}: {_shorten(text, self._page_words)}\n[{PREV}]"

    def _render_results(self, query: str, number: int, seen: tuple[int, ...]) -> str:
        shown, total = self._shown(query, number), len(self.search(query))
        if not shown:
            return f"no results\n[{BACK}]"
        names = [str(k + 1) if self.numbered else self.products[i].id for k, i in enumerate(shown)]
        lines = [f"{n} {self._lines[i]}{' seen' * (i in seen)}" for n, i in zip(names, shown, strict=True)]
        buttons = self._buttons([NEXT] * self._has_next(query, number) + [PREV] * (number > 0) + [BACK])
        pages = "" if self.numbered else f" of {-(-total // self.page_size)}"
        return "\n".join([f"page {number + 1}{pages}", *lines, buttons])

    def _render_item(self, item: int, chosen: tuple[int, ...]) -> str:
        product = self.products[item]
        name = "" if self.numbered else f"{product.id} "
        lines = [f"{name}{_shorten(product.title, self._page_words)} {_money(product.price)}"]
        if not self.detail_pages:
            lines.append(f"about: {self._between.join(product.attributes)}")
        lines += [f"{name}: {self._between.join(values)}" for name, values in product.options]
        picked = [values[k] for (_, values), k in zip(product.options, chosen, strict=True) if k >= 0]
        if product.options:
            lines.append(f"chosen: {', '.join(picked) or 'none'}")
        return "\n".join([*lines, self._buttons([*(DETAILS if self.detail_pages else ()), BUY, PREV, BACK])])

    def _buttons(self, names: Sequence[str]) -> str:
        return ", ".join(names) if self.numbered else " ".join(f"[{name}]" for name in names)


def _money(price: float) -> str:
    """Dollars and cents, without zeros behind: $12, $9.5, $123456.75."""
    return f"${price:.2f}".rstrip("0").rstrip(".")
