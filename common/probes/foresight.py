"""Probe of the accuracy of world models: predicted states against real ones, by depth."""

from __future__ import annotations

from common.evaluate import foresight
from common.probes.game import TASKS, Scripted, Spelling, named
from common.search.transitions import QUESTION, Transition, Tried, asked, shown


def probe() -> dict[str, float | str]:
    """See :mod:`common.probes`."""
    policy, texts = Scripted(), ("a", "so far ab", "c", "over")
    episode = [Transition("t", ({"role": "user", "content": f"state {i}"},), Tried(f"act {i}", text)) for i, text in enumerate(texts)]
    forecasts = foresight.forecasts(episode, depth=3)
    foresight.imagine(forecasts, policy, lambda prompt, action, page: f"{prompt}/{action}/{page}", seed=5)
    pairs = (("a b c", "a c b"), ("", ""), ("x", "x y"))
    values = {f"tokens.{i}": foresight.token_accuracy(*pair) for i, pair in enumerate(pairs)}
    return values | named("fidelity", foresight.fidelity(forecasts)) | {
        "forecasts": repr([one.record() for one in forecasts]), "asked": repr([asked(episode[0].prompt, "a"), QUESTION]),
        "shown": shown(Spelling().reset(TASKS[0]))}  # fmt: skip
