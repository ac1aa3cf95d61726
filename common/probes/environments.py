"""Probe of an environment: transcripts of a few tasks of each panel, and the functions beside the interface that papers use.

Panels are built anew, so that a changed generator shows. Environments whose files a user supplies read a few rows that are
written here, in the same format. Modules of single environments are imported by name, or each would count as covered by all.
"""

from __future__ import annotations

import json
import lzma
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from common.envs import make
from common.envs.build import build_env
from common.envs.panels import PanelError, data_hash, load_panel, supplied, version
from common.probes import NotAttestable
from common.rng import generator
from common.types import Observation, Task

TASKS = 3
"""Tasks of each panel whose episodes are written down."""
JUNK = ("no such action", "", "click[", "3 + \n99 - 1")

Found = dict[str, float | int | str]


def probe(env_id: str) -> Found:
    """See :mod:`common.probes`. NotAttestable where an optional package that makes the tasks is absent."""
    with tempfile.TemporaryDirectory() as folder, _files(env_id, Path(folder)):
        data = Path(folder)
        if not supplied(env_id):
            build_env(data, env_id)
        try:
            names = sorted(version(env_id).panels()) if supplied(env_id) else sorted(
                path.stem for path in (data / env_id).glob("*.jsonl") if path.stem != "catalogue")
            values: Found = {"data": data_hash(data, env_id)}
            panels = {name: load_panel(data, f"{env_id}/{name}") for name in names}
        except (FileNotFoundError, PanelError) as error:
            raise NotAttestable(str(error)) from None
        env = make(env_id, data)
        play = _frames if hasattr(env, "shape") else _talk
        some = {name: tasks[:TASKS] for name, tasks in panels.items() if tasks}
        for name, tasks in some.items():
            values |= play(env, name, tasks)
        if more := MORE.get(env_id):
            values |= more(env, [task for tasks in some.values() for task in tasks])
    return values


# -- episodes -----------------------------------------------------------------------------------------


def _talk(env: Any, name: str, tasks: list[Task]) -> Found:
    """Episodes of a text environment: at every state what a player sees, exact values, and what some actions lead to."""
    lines: list[str] = []
    rewards, values = [], []
    for task in tasks:
        rng, seen = generator("probe", task.id), env.reset(task)
        lines.append(f"{task.id} {_observation_text(seen)} {env.max_steps}")
        while not seen.done:
            state, actions = env.snapshot(), env.actions()
            meant, taken = env.expert(rng) if hasattr(env, "expert") else (env.oracle(), env.lazy())
            values.append(env.value(state))
            lines.append(repr((env.prompt(), actions, round(values[-1], 9), env.oracle(), env.lazy(), meant, taken)))
            for action in dict.fromkeys((actions[0], actions[len(actions) // 2], actions[-1], meant, *JUNK)):
                lines.append(f"{action}: {env.q(state, action):.9g} {_observation_text(env.step(action))}")
                env.restore(state)
            seen = env.step(taken)
        rewards.append(seen.reward)
        lines.append(_observation_text(seen))
    return {f"{name}.episodes": "\n".join(lines), f"{name}.reward": float(np.mean(rewards)), f"{name}.value": float(np.mean(values))}


def _observation_text(seen: Observation) -> str:
    return f"{seen.text!r} {seen.reward:.9g} {seen.terminated} {seen.truncated}"


def _frames(env: Any, name: str, tasks: list[Task]) -> Found:
    """Episodes of a game of pixels, played by its expert or scripted player and at random by turns."""
    player = (lambda _: env.expert()) if hasattr(env, "expert") else lambda seen: version(env.id).scripted(seen)
    lines, rewards = [f"{env.actions} {env.planes} {env.shape} {env.max_steps}"], 0.0
    for task in tasks:
        rng, planes = generator("probe", task.id), env.reset(task.data["seed"])
        for step in range(env.max_steps):
            action = player(planes) if step % 5 else int(rng.integers(len(env.actions)))
            frame = env.step(action)
            planes, rewards = frame.planes, rewards + frame.reward
            lines.append(f"{action} {np.packbits(planes).tobytes().hex()} {frame.reward} {frame.terminated} {frame.truncated}")
            if frame.done:
                break
    return {f"{name}.episodes": "\n".join(lines), f"{name}.reward": rewards, f"{name}.steps": len(lines) - 1}


# -- what else papers ask -----------------------------------------------------------------------------


def _answers(env: Any, tasks: list[Task]) -> Found:
    """Dialogues of several attempts, some of them shown; what is declared and what it is worth."""
    lines = []
    for task in tasks:
        long = env.dialogue(4, window=2)
        long.reset(task)
        for text in (long.lazy(), "so\n " + long.oracle(), "\n"):
            lines.append(repr((long.declared(text), long.score(text), _observation_text(long.step(text)), long.prompt())))
    env.reset(tasks[0])
    first, other = env.lazy(), env.oracle()
    return {"dialogues": "\n".join(lines), "turns": repr([env.turn(answer, first) for answer in (first, other)])}


def _roles(env: Any, tasks: list[Task]) -> Found:
    lines = []
    for task in tasks:
        env.reset(task)
        for text in (env.lazy(), "9 ** 2", *env.false_critiques(env.oracle())):
            lines.append(repr((text, env.worth(text), env.score(text), env.critique(text), env.false_critiques(text),
                               env.declared(text), env.verdict(text), env.computed(text))))  # fmt: skip
        while env.actions():
            lines.append(repr((env.role(), env.role_of(env.prompt()))))
            env.step(env.lazy())
    return {"roles": "\n".join(lines)}


def _deduction(env: Any, tasks: list[Task]) -> Found:
    """Prompts at every step of a discussion, and exact beliefs about it."""
    belief, world = (import_module(f"common.envs.deduction.{name}") for name in ("belief", "world"))
    lines, wins = [], []
    for task in tasks:
        seen = env.reset(task)
        while not seen.done:
            state = env.snapshot()
            heard = env.heard()
            lines.append(repr([env.asked(one, "hear", after=len(heard) // 2) for one in world.COLOURS]))
            for one in state.world.crew:
                believed = belief.ideal(one, world.seen(state.world, one), heard)
                lines.append(repr([f"{p:.9g}" for p in believed.values()]) + repr(belief.most_suspect(believed)))
            wins.append(belief.ideal_win(state.world, heard, trust=0.7))
            seen = env.step(env.expert(generator("probe", task.id, len(lines)))[1])
        names = dict(zip(world.COLOURS, world.COLOURS[1:] + world.COLOURS[:1], strict=True))
        lines.append(repr((world.renamed(state.world, names), world.to_data(state.world), version(env.id).role_of(env.asked("red", "say")))))
    return {"beliefs": "\n".join(lines), "beliefs.win": float(np.mean(wins))}


def _facts(env: Any, tasks: list[Task]) -> Found:
    """The shortest certain talks, what could be known in demonstrated ones, and the floor."""
    module, lines = version(env.id), []
    for task in tasks:
        seen = env.reset(task)
        while not seen.done:
            seen = env.step(env.brief())
        lines.append(repr((env.snapshot().said, module.FLOOR)))
        seen, rng = env.reset(task), generator("probe", task.id)
        while not seen.done:
            seen = env.step(env.expert(rng)[1])
            lines.append(repr((module.declared(env.snapshot().said[-1]), seen.done or module.known_answer(env.snapshot()))))
        lines.append(repr(module.guessed(env, task, env.snapshot().said)))
        lines += map(repr, env.demonstrations(task, rng, "good?"))
    return {"talks": "\n".join(lines), "heard": module.heard_as("é\n x ")}


def _household(env: Any, tasks: list[Task]) -> Found:
    """What can be told of a home, and how pages are read, on an expert's way and after what has no effect."""
    module, lines = version(env.id), []
    for task in tasks:
        lines.append(repr((module.told_of_home(task), module.UNINFORMED, module.INFORMED)))
        seen, rng = env.reset(task), generator("probe", task.id)
        while not seen.done:
            for action in ("put it", env.expert(rng)[1]):
                text = env.prompt()[0]["content"]
                lines.append(repr((module.goal_of(text), module.did(text), module.described(text), module.first_page(text))))
                seen = seen if seen.done else env.step(action)
    return {"read": "\n".join(lines)}


def _shop(env: Any, tasks: list[Task]) -> Found:
    """Labels of products, which papers of look-ahead do not read off the page; pages beyond the first; which options match, and prices."""
    engine, scoring = import_module("common.envs.shop.engine"), import_module("common.envs.shop.scoring")
    env.reset(tasks[0])
    env.step(env.actions()[0])
    state, lines = env.snapshot(), []
    for _ in range(3):
        lines.append(repr((env.shown(env.snapshot()), [env.label(env.snapshot(), i) for i in env.shown(env.snapshot())])))
        lines.append(_observation_text(env.step("click[next >]")))
    env.restore(state)
    pairs = [("standard", "tan"), ("tan", "tan"), ("dark tan", "tan"), ("tan", "dark tan"), ("x-large", "large"), ("blue 2-pack", "blue"), ("Navy", "navy")]
    return {"pages": "\n".join([*lines, _observation_text(env.step("click[back to search]"))]),
            "options": repr([scoring.option_matches(*pair) for pair in pairs]),
            "prices": repr([engine._money(price) for price in (0.5, 12.0, 99999.99, 100000.0, 123456.78, 1234567.0)])}  # fmt: skip


def _duels(env: Any, tasks: list[Task]) -> Found:
    """All that is known of a duel exactly, and what training meets."""
    duels = import_module("common.envs.duels")
    return {"preferences": repr(duels.preferences(env, [task.data["seed"] for task in tasks]).round(9).tolist()),
            "practice": repr(duels.practice(env, 1).round(9).tolist()), "favouring": repr(duels.favouring(0.5).tolist())}  # fmt: skip


def _home(env: Any, tasks: list[Task]) -> Found:
    """What can be told of things, what an expert shows of them, and how pages are read, on its way and after what has no effect."""
    module, lines = version(env.id), []
    for task in tasks:
        seen, rng, shown = env.reset(task), generator("probe", task.id), []
        while not seen.done:
            text, (action, taken) = env.prompt()[0]["content"], env.expert(rng)
            shown.append((text, action))
            lines.append(repr((module.goal_of(text), module.did(text), module.described(text), module.first_page(module.goal_of(text)))))
            seen = env.step(taken)
        lines.append(repr((module.facts(shown), module.UNINFORMED, module.INFORMED, module.told_of_home(task) if task.split != "demos" else "")))
    return {"read": "\n".join(lines)}


MORE: dict[str, Callable[[Any, list[Task]], Found]] = {
    "arithmetic-v1": _answers, "countdown-answer-v1": _answers, "countdown-roles-v1": _roles, "countdown-worked-roles-v1": _roles,
    "countdown-worked-v1": _answers, "deduction-v1": _deduction, "duel-cyclic-v1": _duels, "duel-transitive-v1": _duels,
    "facts-two-holders-v1": _facts, "gsm8k-v1": _answers, "household-v1": _household,
    "math500-v1": _answers, "reasoning-gym-v1": _answers, "shop-v1": _shop, "textworld-home-v1": _home, "webshop-1k": _shop,
}  # fmt: skip


# -- rows in the formats of files that a user supplies ---------------------------------------------------


@contextmanager
def _files(env_id: str, folder: Path) -> Iterator[None]:
    """What the environment reads in the place of a user's files, in ``folder``."""
    variable, write = SUPPLIED.get(env_id, ("", None))
    if write is None:
        yield
        return
    write(folder)
    before = os.environ.get(variable)
    os.environ[variable] = str(folder)
    try:
        yield
    finally:
        os.environ.pop(variable)
        if before is not None:
            os.environ[variable] = before


def _lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _gsm8k(folder: Path) -> None:
    answers = (("Tom has 4 eggs and finds 1,000 more. How many has he?", "4 + 1000\n#### 1,004"),
               ("Half of a cake is shared by three. Who gets what?", "1/2 : 3\n#### 1/6"),
               ("A shirt costs $2.50. What do four cost?", "2.5 * 4 = 10\n#### 10"))  # fmt: skip
    _lines(folder / "test.jsonl", [{"question": question, "answer": answer} for question, answer in answers])
    _lines(folder / "train.jsonl", [{"question": f"{i} and {question}", "answer": answer} for i in range(2) for question, answer in answers]
           + [{"question": answers[0][0], "answer": answers[0][1]}])  # fmt: skip


def _math500(folder: Path) -> None:
    answers = ("\\frac{3}{2}", "12\\sqrt{3}", "(1, -2]", "x^2 + 1", "45^\\circ", "\\text{even}", "1,234", "0.5", "\\$7", "50\\%", "x = 3")
    rows = [{"problem": f"What is number {i}?", "solution": f"It is $\\boxed{{{answer}}}$.", "answer": answer, "subject": "Algebra",
             "level": 1 + i % 5, "unique_id": f"test/{i}.json"} for i, answer in enumerate(answers)]  # fmt: skip
    _lines(folder / "test.jsonl", rows[:-4])
    _lines(folder / "train.jsonl", rows[-5:])


def _webshop(folder: Path) -> None:
    def row(asin: str, name: str, **more: Any) -> dict[str, Any]:
        return {"asin": asin, "name": name, "category": "garden", "query": "console tables", "product_category": "Home \u203a Tables",
                "pricing": [20.0, 30.0], "options": {}, "Attributes": [], "BulletPoints": ["Bright"], "full_description": "",
                "average_rating": ""} | more  # fmt: skip

    products = [row("B0001", "Acme Solid Wood Console Table", options={"size": ["Small", "large  one"], "color": ["red", "blue"]},
                    BulletPoints=["Sturdy legs. ", "Second."], full_description="A table."),
                row("B0002", "Zeta Lamp", pricing=[990.0], query="lamps"),
                *(row(f"B01{i:02d}", f"Plain Wood Table number {i} for rooms", pricing=[5.0 + i]) for i in range(14))]  # fmt: skip
    wanted = {"attributes": ["solid wood", "living room"], "instruction_attributes": ["solid wood", "living room"],
              "instruction": "Find me solid wood console tables for living room"}  # fmt: skip
    with lzma.open(folder / "products_1000.jsonl.xz", "wt", encoding="utf-8") as file:
        file.write("\n".join(json.dumps(one) for one in products))
    items = {one["asin"]: wanted if one["asin"] in ("B0001", "B0103") else {"attributes": []} for one in products}
    (folder / "items_ins_v2_1000.json").write_text(json.dumps(items), encoding="utf-8")


SUPPLIED: dict[str, tuple[str, Callable[[Path], None]]] = {
    "gsm8k-v1": ("GSM8K_DATA", _gsm8k), "gsm8k-steps-v1": ("GSM8K_DATA", _gsm8k), "math500-v1": ("MATH500_DATA", _math500),
    "webshop-1k": ("WEBSHOP_DATA", _webshop),
}  # fmt: skip
"""Environment → the variable that names its folder, and what writes one."""
