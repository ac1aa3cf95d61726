"""What foreseeing does: other actions than an expert's, look-ahead in the world itself and in imagination, and how true that is."""

from __future__ import annotations

from common.evaluate import imagination
from common.probes.game import KEYS, TASKS, Scripted, Spelling, named, told
from common.search.experience import QUESTION, Moment, Tried, asked, demonstrate, shown, try_others
from common.search.lookahead import Imagined, LookAhead, Real, Seen, Simulation, Votes, act, distinct, foresee, voted


def probe() -> dict[str, float | str]:
    """See :mod:`common.probes`."""
    env, policy = Spelling(), Scripted()
    return _experience(env, policy) | _ahead(env, policy) | _imagined(policy)


def _experience(env: Spelling, policy: Scripted) -> dict[str, float | str]:
    played = [one for task in TASKS for one in demonstrate(env, task, env.oracle)]
    prompts = [moment.prompt for moment, _ in played][:3]
    return {"experience": repr(try_others(env, played, policy, k=2, draws=4, seed=7)), "asked": repr([asked(prompts[0], "a"), QUESTION])}


def _ahead(env: Spelling, policy: Scripted) -> dict[str, float | str]:
    """Look-ahead in the game itself and in imagination, and votes for the same price."""
    def judge(path: list[Seen]) -> float:
        return sum(len(state.text) * (i + 1) for i, state in enumerate(path)) % 13 / 13

    imagined = Imagined(policy, lambda prompt, action, page: f"{prompt} | {action} | {page}")
    found: dict[str, float | str] = {}
    for name, world in (("real", Real(env)), ("imagined", imagined)):
        decide = LookAhead(policy, Simulation(world, policy, judge, depth=3), k=3, draws=5)
        found[f"ahead.{name}"] = told(act(env, TASKS, decide, keys=KEYS)) + repr(decide.decisions)
    votes = Votes(policy, allowance=[40, 30, 20, 10, 10], turn_tokens=2.5)
    found["ahead.votes"] = told(act(env, TASKS, votes, keys=KEYS)) + repr((votes.spent, votes.samples))
    starts = []
    for task in TASKS:
        env.reset(task)
        starts.append(Seen(env.prompt(), hidden=env.snapshot()))
    paths = foresee(Real(env), policy, starts, ["a", "b", "stop"], KEYS, depth=4)
    turns = policy.one(9, 7)
    return found | {"ahead.paths": repr([[(s.action, s.text, s.over) for s in path] for path in paths]),
                    "ahead.turns": repr((distinct(turns, 2), voted(turns))), "ahead.shown": shown(env.reset(TASKS[0]))}  # fmt: skip


def _imagined(policy: Scripted) -> dict[str, float | str]:
    texts = ("a", "so far ab", "c", "over")
    played = [Moment("t", ({"role": "user", "content": f"state {i}"},), Tried(f"act {i}", text)) for i, text in enumerate(texts)]
    walks = imagination.walks_of(played, depth=3)
    imagination.imagine(walks, policy, lambda prompt, action, page: f"{prompt}/{action}/{page}", seed=5)
    pairs = (("a b c", "a c b"), ("", ""), ("x", "x y"))
    found = {f"tokens.{i}": imagination.token_accuracy(*pair) for i, pair in enumerate(pairs)}
    return found | named("fidelity", imagination.fidelity(walks)) | {"walks": repr([walk.record() for walk in walks])}
