# %% [markdown]
# # Start here: four stories, and a tour in two minutes
#
# This laboratory replicates training methods of LLM-agent papers at a scale that a laptop can run, and says with
# statistics whether each paper's claims hold. The papers tell four stories, a notebook each. All show published results
# within a minute and train only where you say so; `paper` in the second cell chooses another paper of the story.
#
# | story | its question |
# |---|---|
# | [Self-correction](self_correction.ipynb) | Can a policy learn to repair its own answers, when nobody tells it whether they were right? |
# | [Tree search and preferences](tree_search_dpo.ipynb) | Does a search teach a policy more than its own episodes do? |
# | [Multi-agent training](multi_agent.ipynb) | Do agents that are trained together become better than one that spends as much? |
# | [World models](world_models.ipynb) | Does it help an agent to foresee what its actions lead to? |
# | [The report](90_report.ipynb) | Do the papers' claims hold? All verdicts and figures |
#
# Below is one toy of everything: an environment, its exact values, a search tree, a language model to ask and to play beside,
# DPO, a claim judged, and at the end a sweep of your own. It needs nothing that was trained or downloaded. In
# JupyterLab, point at the marks of a figure to read its numbers.

# %% tags=["parameters"]
env: str = "countdown-v1"  # the environment whose base model is sampled from, if there is one
profile: str = "cpu"  # whose base model that is: smoke or cpu
sweep: str = ""  # a sweep for the last cell to start, for example "--paper agent_q --profile smoke --grid search.alpha=0,1"

# %%
import torch
from IPython.display import display
from common.envs.versions.countdown_v1 import CountdownEnv
from common.evaluate.claims import Claim, PaperClaims
from common.evaluate.tables import claims_table
from common.evaluate.verdicts import judge
from common.learn.losses import dpo_losses
from common.report import figures, published
from common.report.show import quiet, say, show
from common.report.toy import ScriptedPolicy, toy_rows
from common.search.draw import draw_tree
from common.search.mcts import MCTSSettings, search
from common.search.rollout import rollout
from common.sweep.unit import base_dir, project_root
from common.types import Task
quiet()

# %% [markdown]
# ## An environment, by hand
#
# Countdown: combine numbers until one is left, and hit the target. A policy sees text and answers with text.

# %%
task = Task("tour", "countdown-v1", "tour", {"numbers": [8, 7, 24], "target": 24})
world = CountdownEnv()
print(world.reset(task).text)
start = world.snapshot()
for action in ("24 * 8", "8 - 7", "24 * 1"):
    seen = world.step(action) if action != "8 - 7" else (world.restore(start), world.step(action))[1]
    print(f"> {action:8} → {seen.text}" + (f"  (reward {seen.reward:g})" if seen.done else ""))

# %% [markdown]
# Snapshots make "what if" free: after the first action the state was put back. And because the environment is small,
# what each action is *worth* can be computed exactly: 1 for a win now, γ for a win a step later, 0 for a dead end.

# %%
world.reset(task)
for action in world.actions():
    print(f"{action:8} Q* = {world.q(world.snapshot(), action):.2f}")
print(f"V* = {world.value(world.snapshot()):.2f}, the oracle plays {world.oracle()!r}, the lazy agent {world.lazy()!r}")

# %% [markdown]
# ## A search
#
# A policy that proposes at random and judges by a rule of thumb, guided by tree search with UCB1. Colour is the value
# of an action, size its visits, hollow nodes were never tried, squares are finished episodes.

# %%
settings = MCTSSettings(simulations=24, branching=4, c=0.5, alpha=0.5, gamma=0.95, max_depth=6, rule="ucb1")
[tree] = search(world, [(task, None)], ScriptedPolicy(), settings, keys=[1])
show(draw_tree(tree, max_nodes=20))

# %% [markdown]
# ## A policy
#
# A small language model, trained from scratch on demonstrations (`make data` fetches it), plays the same game. If it is not
# here, the random policy plays instead.

# %%
folder = base_dir(project_root(), env, profile)
if folder is not None and (folder / "config.json").exists() and env == "countdown-v1":
    from common.lm.engine import Engine
    from common.lm.models import load_model
    from common.lm.policy import LMPolicy

    policy, who = LMPolicy(Engine(*load_model(folder))), f"the base model in {folder.relative_to(project_root())}"
else:
    policy, who = ScriptedPolicy(), "the random policy (no base model here yet)"
episodes = rollout(world, [task] * 8, policy, keys=list(range(8)))
print(f"{sum(e.success for e in episodes)} of 8 episodes of {who} reach the target:")
for episode in episodes[:4]:
    print("  ", "; ".join(step.turn.text for step in episode.steps), "→", episode.reward)

# %% [markdown]
# ## Ask one yourself
#
# Whole answers with their working, by a base model that does not look ahead: sixteen tries at a task of yours. Change the numbers and the
# target, and run the cell again; `weights="runs/PAPER/KEY/stages/train.NAME"` asks a policy that you trained.

# %%
from common.report.play import NothingToAsk, ask, play

try:
    ask("countdown-worked-v1", numbers=[14, 5, 3], target=16)
except NothingToAsk as missing:
    print(missing)

# %% [markdown]
# ## Play beside it
#
# A shop with a search box: buy what the goal says. Beside each action, how likely the base model is to write it and what it is
# worth exactly, if all goes well from there. Take actions by number or by text, in cells of your own: `game.step(1)`.
# `play("countdown-v1")` is a game of numbers, in which the likeliest action is often a mistake.

# %%
try:
    display(game := play("shop-v1"))
    display(game.step(1))
except NothingToAsk as missing:
    print(missing)

# %% [markdown]
# ## A preference, learned
#
# The search found `8 - 7` better than `24 + 8`. DPO raises the log-ratio between the two. Here the "model" is two
# numbers and everything else is real; the loss starts at ln 2, because policy and reference agree.

# %%
logits, points = torch.zeros(2, requires_grad=True), []
stored = torch.log_softmax(logits.detach(), -1)
optimiser = torch.optim.SGD([logits], lr=4.0)
for update in range(1, 41):
    now = torch.log_softmax(logits, -1)
    loss = dpo_losses(now[:1], now[1:], stored[:1], stored[1:], beta=0.5, weights=torch.ones(1)).mean()
    margin = 0.5 * ((now - stored)[0] - (now - stored)[1])
    for name, value in (("loss", loss), ("reward_margin", margin)):
        points.append({"variant": "toy", "round": 1, "update": update, "metric": name, "value": value.item()})
    optimiser.zero_grad(), loss.backward(), optimiser.step()
show(figures.curves(points, ("loss", "reward_margin")))
print(f"probability of the better action: 0.50 → {torch.softmax(logits, -1)[0].item():.2f}")

# %% [markdown]
# ## A claim, judged
#
# Claims are written down before results: which variant is better, on which metric and panel, with what kept equal. Five
# made-up seeds; the differences are paired by seed, so that a small but steady advantage can be seen.

# %%
rows = toy_rows({"before": (0.30, 0.36, 0.33, 0.41, 0.35), "after": (0.34, 0.41, 0.35, 0.46, 0.41)})
claim = Claim("T1", "after beats before", ("after",), ("before",), "success", "countdown-v1/toy", "env_steps", "", looks=(5,))
judged = judge(PaperClaims("toy", "tree_search_dpo", "made up", "this notebook", (claim,)), rows)
say(claims_table(judged))
show(figures.ladder(rows, ["before", "after"]))

# %% [markdown]
# ## Where everything is
#
# | look at | to see |
# |---|---|
# | `results/` | the tables behind every number; `results/claims/` has the verdicts |
# | `runs/<paper>/<key>/` | one folder per unit: parameters, events, rows, trees, pairs, episodes |
# | `make mlflow` | the same in a browser, live while a sweep runs |
# | `papers/<id>/method.py` | a method in one file, with its departures from the paper |
# | `make report` | the site with all papers' pages: `site/index.html` |

# %%
print(published.published_rows(project_root(), "agent_q", "countdown-v2", profile)[1])

# %% [markdown]
# ## Your own question
#
# A sweep changes parameters of a paper (those of `papers/<id>/params.yaml`) over a grid and seeds. It runs beside
# the kernel and goes on when the browser is closed; `sweep_view()` shows the newest one in any cell, with the time that is left.
# Set `sweep` in the second cell, or call `start_in_background` here. `make sweep GRID="search.alpha=0,0.5,1"` does the same in a
# terminal.

# %%
from common.report.sweeps import sweep_view
from common.sweep.board import start_in_background

if sweep:
    display(sweep_view(start_in_background(sweep)))
else:
    print("no sweep was asked for; for example: sweep_view(start_in_background('--paper agent_q --profile smoke --grid search.alpha=0,1'))")
