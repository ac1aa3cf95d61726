"""Tree search against the MCTS of llm-reasoners: same model, game, branching, depth and simulations.

The game costs nothing itself: an action is six sampled tokens, an episode four of them, and the reward a number made
from all that was said. llm-reasoners grows one tree at a time and expands every state that a simulation passes, as its
algorithm says; its model is asked by ``generate`` for all children of a state at once.
"""

from __future__ import annotations

import hashlib
import importlib.util
import time
from dataclasses import replace

import torch

from benchmarks.measure import Measure, Work, race
from benchmarks.models import WORDS, nano
from common.lm.engine import Engine
from common.lm.policy import LMPolicy
from common.rng import derive, generator
from common.search.mcts import MCTSSettings, search
from common.types import Message, Observation, Task

SIMULATIONS, BRANCHING, DEPTH, TREES, TOKENS = 16, 4, 4, 64, 6
SETTINGS = MCTSSettings(simulations=SIMULATIONS, branching=BRANCHING, c=1.0, alpha=1.0, gamma=1.0, max_depth=DEPTH,
                        rule="ucb1", use_critique=False)  # fmt: skip


class Talk:
    """A toy environment for search: the state is the text so far, and DEPTH actions end the episode."""

    id, max_steps, gamma = "talk", DEPTH, 1.0

    def reset(self, task: Task, seed: int = 0) -> Observation:  # noqa: ARG002
        self.state = (task.data["text"],)
        return Observation("go on")

    def step(self, action: str) -> Observation:
        self.state = (*self.state, action)
        over = len(self.state) > DEPTH
        earned = hashlib.sha256("|".join(self.state).encode()).digest()[0] / 255 if over else 0.0
        return Observation("", reward=earned, terminated=over)

    def actions(self) -> list[str]:
        return ["anything"] if len(self.state) <= DEPTH else []

    def prompt(self) -> tuple[Message, ...]:
        return ({"role": "user", "content": " ".join(self.state)},)

    def snapshot(self) -> tuple[str, ...]:
        return self.state

    def restore(self, snapshot: tuple[str, ...]) -> None:
        self.state = snapshot


def tasks(n: int) -> list[Task]:
    rng = generator("benchmark tasks")
    return [Task(str(i), "talk", "train", {"text": " ".join(rng.choice(WORDS, 8))}) for i in range(n)]


def ours(engine: Engine, chosen: list[Task], together: int, settings: MCTSSettings = SETTINGS) -> Work:
    """Simulations of a tree a task, ``together`` trees at a time."""

    def work() -> float:
        policy, done = LMPolicy(engine, max_new_tokens=TOKENS), 0
        for at in range(0, len(chosen), together):
            some = chosen[at : at + together]
            trees = search(Talk(), [(task, None) for task in some], policy, settings,
                           keys=[derive(0, "benchmark", task.id) for task in some])  # fmt: skip
            done += sum(tree.nodes[0].visits for tree in trees)
        return done

    return work


def reasoners(model, tokenizer, chosen: list[Task]) -> Work:  # noqa: ANN001
    """The same number of simulations by llm-reasoners."""
    from reasoners import SearchConfig, WorldModel
    from reasoners.algorithm import MCTS

    talk = Talk()

    class Game(WorldModel):
        def init_state(self):  # noqa: ANN202
            talk.reset(self.example)
            return talk.snapshot()

        def step(self, state, action):  # noqa: ANN001, ANN202
            talk.restore(state)
            earned = talk.step(action).reward
            return talk.snapshot(), {"earned": earned}

        def is_terminal(self, state) -> bool:  # noqa: ANN001
            return len(state) > DEPTH

    class Asking(SearchConfig):
        @torch.inference_mode()
        def get_actions(self, state) -> list[str]:  # noqa: ANN001
            talk.restore(state)
            text = tokenizer.apply_chat_template(list(talk.prompt()), tokenize=False, add_generation_prompt=True)
            rows = tokenizer([text], add_special_tokens=False, return_tensors="pt").to(model.device)
            made = model.generate(**rows, do_sample=True, temperature=1.0, top_k=0, max_new_tokens=TOKENS,
                                  num_return_sequences=BRANCHING, pad_token_id=tokenizer.pad_token_id)  # fmt: skip
            texts = tokenizer.batch_decode(made[:, rows["input_ids"].shape[1] :], skip_special_tokens=True)
            return list(dict.fromkeys(texts))

        def fast_reward(self, state, action):  # noqa: ANN001, ANN202
            return 0.0, {}

        def reward(self, state, action, earned=0.0, **_):  # noqa: ANN001, ANN003, ANN202
            return earned, {}

    def work() -> float:
        world, config = Game(), Asking()
        algorithm = MCTS(n_iters=SIMULATIONS, depth_limit=DEPTH, w_exp=1.0, simulate_strategy="random")
        for task in chosen:
            world.update_example(task)
            config.update_example(task)
            algorithm(world, config)
        return len(chosen) * SIMULATIONS

    return work


def growth() -> dict[str, list[tuple[float, float]]]:
    """Seconds against the number of trees grown together, and of simulations in each."""
    model, tokenizer = nano()

    def best(trees: int, simulations: int) -> float:
        settings, times = replace(SETTINGS, simulations=simulations), []
        for _ in range(3):
            work = ours(Engine(model, tokenizer), tasks(trees), trees, settings)
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        return min(times)

    return {
        f"trees ({SIMULATIONS} simulations each)": [(n, best(n, SIMULATIONS)) for n in (1, 4, 16, 64, 256)],
        "simulations (16 trees)": [(n, best(16, n)) for n in (4, 16, 64, 256)],
    }


def skipped() -> list[str]:
    """Why a race is left out, a sentence each."""
    if importlib.util.find_spec("reasoners"):
        return []
    return ["No race against llm-reasoners, which is not installed: `pip install --no-deps llm-reasoners==1.0.2`."]


def measures() -> list[Measure]:
    model, tokenizer = nano()
    engine, chosen = Engine(model, tokenizer), tasks(TREES)
    what = (f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {BRANCHING} children of {TOKENS} "
            f"tokens, depth {DEPTH}, {SIMULATIONS} simulations a tree")  # fmt: skip
    many = ours(engine, chosen, TREES)
    found = [race("search", f"{TREES} trees together", "simulations/s", many, ours(engine, chosen[:16], 1),
                  against="the same search, a tree at a time", target=None, rounds=3, note=what)]  # fmt: skip
    if not skipped():
        found.append(race("search", f"{TREES} trees together, the other one by one", "simulations/s", many,
                          reasoners(model, tokenizer, chosen[:4]), against="llm-reasoners 1.0.2 MCTS", target=10.0,
                          rounds=3, note=what))  # fmt: skip
    return found
