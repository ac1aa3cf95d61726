"""Tree search against the MCTS of llm-reasoners: same model, task, branching, depth and simulations.

llm-reasoners grows one tree at a time and expands every state that a simulation passes, as its algorithm says; its
model is asked as its own Hugging Face adapter does it, by ``generate`` with one answer a proposal.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

from benchmarks.measure import Measure, Work, race
from benchmarks.models import DEVICE
from common.envs import load_panel, make
from common.lm.engine import Engine
from common.lm.models import load_model
from common.lm.policy import LMPolicy
from common.rng import derive
from common.search.mcts import MCTSSettings, search

SIMULATIONS, BRANCHING, DEPTH, TREES, TOKENS = 16, 4, 4, 64, 24
SETTINGS = MCTSSettings(simulations=SIMULATIONS, branching=BRANCHING, c=1.0, alpha=1.0, gamma=1.0, max_depth=DEPTH,
                        rule="ucb1", use_critique=False)  # fmt: skip


def ours(env, tasks, engine: Engine, together: int) -> Work:  # noqa: ANN001
    """Simulations of a tree a task, ``together`` trees at a time."""

    def work() -> float:
        policy, done = LMPolicy(engine, max_new_tokens=TOKENS), 0
        for at in range(0, len(tasks), together):
            some = tasks[at : at + together]
            trees = search(env, [(task, None) for task in some], policy, SETTINGS,
                           keys=[derive(0, "benchmark", task.id) for task in some])  # fmt: skip
            done += sum(len(tree.nodes[0].returns) for tree in trees)
        return done

    return work


def reasoners(env, tasks, model, tokenizer) -> Work:  # noqa: ANN001
    """The same trees by llm-reasoners."""
    from reasoners import SearchConfig, WorldModel
    from reasoners.algorithm import MCTS

    class Game(WorldModel):
        def init_state(self):  # noqa: ANN202
            env.reset(self.example)
            return env.snapshot(), False, 0.0

        def step(self, state, action):  # noqa: ANN001, ANN202
            env.restore(state[0])
            seen = env.step(action)
            return (env.snapshot(), seen.done, seen.reward), {"earned": seen.reward}

        def is_terminal(self, state) -> bool:  # noqa: ANN001
            return state[1]

    class Asking(SearchConfig):
        @torch.inference_mode()
        def get_actions(self, state) -> list[str]:  # noqa: ANN001
            env.restore(state[0])
            text = tokenizer.apply_chat_template(list(env.prompt()), tokenize=False, add_generation_prompt=True)
            rows = tokenizer([text], add_special_tokens=False, return_tensors="pt").to(model.device)
            made = model.generate(**rows, do_sample=True, temperature=1.0, top_k=0, max_new_tokens=TOKENS,
                                  num_return_sequences=BRANCHING, pad_token_id=tokenizer.pad_token_id)  # fmt: skip
            said = tokenizer.batch_decode(made[:, rows["input_ids"].shape[1] :], skip_special_tokens=True)
            return list(dict.fromkeys(said))

        def fast_reward(self, state, action):  # noqa: ANN001, ANN202
            return 0.0, {}

        def reward(self, state, action, earned=0.0, **_):  # noqa: ANN001, ANN003, ANN202
            return earned, {}

    def work() -> float:
        world, config = Game(), Asking()
        algorithm = MCTS(n_iters=SIMULATIONS, depth_limit=DEPTH, w_exp=1.0, simulate_strategy="random")
        for task in tasks:
            world.update_example(task)
            config.update_example(task)
            algorithm(world, config)
        return len(tasks) * SIMULATIONS

    return work


def skipped() -> list[str]:
    """Why a race is left out, a sentence each."""
    if importlib.util.find_spec("reasoners"):
        return []
    return ["No race against llm-reasoners, which is not installed: `pip install --no-deps llm-reasoners==1.0.2`."]


def measures(root: Path) -> list[Measure]:
    data = root / "data"
    folder = root / "models" / "countdown-v1"
    env, tasks = make("countdown-v1", data), load_panel(data, "countdown-v1/validation")[:TREES]
    model, tokenizer = load_model(folder)
    model.to(DEVICE)
    engine = Engine(model, tokenizer)
    what = (f"countdown-v1, {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {BRANCHING} children, "
            f"depth {DEPTH}, {SIMULATIONS} simulations")  # fmt: skip
    many = ours(env, tasks, engine, TREES)
    found = [race("search", f"{TREES} trees together", "simulations/s", many, ours(env, tasks[:16], engine, 1),
                  against="the same search, a tree at a time", target=None, rounds=3, note=what)]  # fmt: skip
    if skipped():
        return found
    found.append(race("search", f"{TREES} trees together, llm-reasoners one by one", "simulations/s", many,
                      reasoners(env, tasks[:4], model, tokenizer), against="llm-reasoners 1.0.2 MCTS", target=10.0,
                      rounds=3, note=what))  # fmt: skip
    return found
