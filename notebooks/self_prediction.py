# %% [markdown]
# # Self-prediction: does an agent learn faster that foresees its own latents?
#
# [SPR](https://arxiv.org/abs/2007.05929) answers yes: a deep Q-learner with 100,000 steps of an Atari game gets far
# more out of them when its encoder is trained, beside the reward, so that a transition model can foresee from the
# present latent and the actions taken what the encoder will say of the next five states.
#
# Here the games are MinAtar's: ten by ten cells, a few boolean planes, small enough for a laptop's core. The family's
# other papers (`world_models.ipynb`) foresee pages of text; this one foresees vectors that it makes up itself. That is
# the difficulty: *if you choose the targets too, why not choose them all alike?*
#
# **What you will see**: the loss beside the function that computes it, by hand; nine agents from the same weights;
# learning curves; which latents stay rich and which collapse; how far ahead they foresee; an episode as pixels.
#
# **How long it takes**: nothing if this unit was run before (`make repro PAPERS=spr`), otherwise about seven minutes on
# one CPU core at the profile `cpu`, seconds at `smoke`. Nothing here needs a GPU.

# %% tags=["parameters"]
paper: str = "spr"  # the paper
env: str = "minatar-breakout-v1"  # minatar-breakout-v1 or minatar-space-invaders-v1
seed: int = 0  # training seed; 0-4 are those of the published tables
profile: str = "cpu"  # smoke (seconds) or cpu (minutes)
overrides: dict = {}  # changed parameters by dotted name, for example {"predict.weight": 1.0}

# %%
from common.sweep.unit import MissingInput, open_unit, project_root

try:  # before anything slow, so that a wrong name or value stops here at once
    unit = open_unit(paper=paper, env=env, seed=seed, profile=profile, overrides=overrides)
except MissingInput as missing:
    unit = None
    print(f"Not run here, the latest published result is shown instead. {missing}")

# %%
import importlib
from pathlib import Path

import torch

from common.envs import make
from common.envs.panels import version
from common.evaluate import latents
from common.learn import distributional as c51
from common.learn import self_prediction as own_future
from common.report import figures, pixels, show, stories, tables

root = project_root()

# %% [markdown]
# ## The game
#
# An observation is a stack of planes: in Breakout where the paddle is, where the ball is and was, where bricks are.
# Breaking a brick is worth 1, missing the ball ends the episode. One action in ten is not obeyed (the last one is
# repeated). Two players to read the numbers against: one acts at random, one follows a rule written by hand. Some steps
# of the rule's play, as an agent sees them:

# %%
game, rule = make(env, root / "data"), version(env).scripted
frame, seen, over = game.reset(1), [], False
while not over and len(seen) < 60:
    action = rule(frame)
    after = game.step(action)
    chosen = [float(a == action) for a in range(len(game.actions))]
    seen.append({"cells": [list(map(int, one)) for one in zip(*frame.nonzero())], "q": chosen, "action": action,
                 "reward": after.reward, "over": after.done})  # fmt: skip
    frame, over = after.planes, after.done
show.show(pixels.film(seen, game.planes, game.actions, values="chosen (1) or not (0)"))

# %% [markdown]
# ## The loss
#
# From the state $s_t$ the online encoder makes a latent $z_t$, which keeps its place in space (5×5 cells). A
# convolutional model $h$ foresees $\hat z_{t+1}=h(z_t,a_t)$, from that $\hat z_{t+2}=h(\hat z_{t+1},a_{t+1})$, and so
# on. What was foreseen and what came are both projected by the first layer of the Q-head, the former also by a linear
# predictor:
#
# $$L=L_{C51}+\frac{\lambda}{K}\sum_{k=1}^{K} m_k\Big\|\frac{\hat y_{t+k}}{\|\hat y_{t+k}\|}-
# \frac{\tilde y_{t+k}}{\|\tilde y_{t+k}\|}\Big\|^2=L_{C51}+\frac{\lambda}{K}\sum_k m_k\,(2-2\cos)$$
#
# $m_k$ is 0 behind an episode's end: what is stored there is the beginning of another one. No gradient flows into
# $\tilde y$: it is what *is*, and the prediction has to come to it. By hand, three steps of one window:

# %%
show.say(*map(stories.source, (own_future.spr_loss, own_future.within_episode)))
foreseen = torch.tensor([[[3.0, 4.0], [1.0, 0.0], [2.0, 2.0]]])
came = torch.tensor([[[4.0, 3.0], [-5.0, 0.0], [0.1, 0.1]]])
for told, ended in (("no end", (0, 0, 0)), ("step 2 was the episode's last", (0, 1, 0))):
    mask = own_future.within_episode(torch.tensor([ended]))
    loss = own_future.spr_loss(foreseen, came, mask).item()
    print(f"{told:30s} mask {mask[0].tolist()}   loss {loss:.2f} (cosines 24/25, −1 and 1)")

# %% [markdown]
# ## Collapse, and how to see it
#
# An encoder that gives every state the same latent makes this loss zero. What holds it back is the stopped gradient
# (targets do not run towards predictions), the Q-loss, and, in the variant `ema`, that targets come from a slow copy
# of the encoder, $\theta'\leftarrow(1-\tau)\theta'+\tau\theta$. The **effective rank** of many states' latents tells:
# with singular values $\sigma_i$ and $p_i=\sigma_i/\sum_j\sigma_j$ it is $\exp(-\sum_i p_i\ln p_i)$, the number of
# directions in use: 1 after a collapse.

# %%
import numpy as np

show.say(stories.source(latents.effective_rank))
noise = np.random.default_rng(0).normal(size=(200, 30))
for name, matrix in (("30 directions, alike", noise), ("one large, 29 small", noise * ([10] + [0.3] * 29)),
                     ("the same for all states, and a little noise", 1 + 1e-3 * noise)):  # fmt: skip
    print(f"{name:45s} effective rank {latents.effective_rank(matrix):6.2f}")

# %% [markdown]
# ## The Q-loss
#
# A value is a distribution over 51 atoms from −10 to 10. Its target is the n-step return plus the discounted
# distribution of the state n steps on (the action chosen by the online weights, its distribution by the slow copy's),
# put back onto the atoms. An atom that falls between two gives to both:

# %%
show.say(*map(stories.source, (c51.n_step, c51.project)))
support = torch.tensor([-1.0, 0.0, 1.0])
before = torch.tensor([[0.2, 0.3, 0.5]])
for reward, discount in ((0.0, 1.0), (0.5, 0.5), (0.25, 0.0), (2.0, 1.0)):
    after = c51.project(before, torch.tensor([reward]), torch.tensor([discount]), support)[0]
    print(f"return {reward:4.2f}, discount {discount:.1f}: [0.2, 0.3, 0.5] on {support.tolist()} → "
          f"{[round(p, 2) for p in after.tolist()]}")

# %% [markdown]
# ## The run
#
# One unit trains *all* variants of one game and one seed: same initial weights, same random numbers, same environment
# steps, same updates. It is computed once; after a kill it goes on with the variant at which it was.
#
# | variant | K | shifts | targets | |
# |---|---|---|---|---|
# | `rainbow`, `no_aug_rainbow` | – | yes, no | – | λ = 0: the same agent, nothing foreseen |
# | `spr@K=1` | 1 | yes | online encoder | |
# | `spr` | 5 | yes | online encoder | the paper's choice with augmentation |
# | `ema` | 5 | yes | slow copy | |
# | `no_aug`, `no_aug_ema` | 5 | no | online encoder, slow copy | |
# | `no_mask` | 5 | yes | online encoder | also foresees what is stored behind an end |
# | `no_stop_grad` | 5 | yes | online encoder | the gradient flows into the targets as well |

# %%
own, artifacts, events = [], Path("none"), Path("none")
if unit:
    artifacts, events = unit.run.artifacts, unit.run.path / "events.jsonl"
    with show.progress(unit.run):
        own = importlib.import_module("papers.spr.method").run(unit)

# %% [markdown]
# ## Results, against the paper's
#
# The paper plays 26 Atari games for 100,000 steps each: compare directions, never sizes. Intervals are 95 % t-intervals
# over training seeds; with one seed there is none, and no claim can be judged. Returns of single runs of a Q-learner
# scatter widely: five seeds can tell apart what differs by about two standard deviations, not less.

# %%
others, where = stories.published(root, paper, env, profile)
rows = stories.together(own, [] if overrides else others)
steps = ("no_aug_rainbow", "no_aug", "no_aug_ema", "rainbow", "spr@K=1", "spr", "ema", "no_mask", "no_stop_grad")
columns = ("return", "length", "rank", "rank_projected", "match@1", "cosine@1")
lazy = [row.value for row in rows if (row.variant, row.metric) == ("random", "return")]
lines = {"random": sum(lazy) / len(lazy)} if lazy else {}
show.say("**In the paper**", stories.section(root / "papers" / paper / "README.md", "What the paper reports"),
         f"**Here.** {where} " + (f"This unit (seed {seed}) joins them." if own and not overrides else ""),
         tables.summary_table(rows, ("random", *steps, "scripted"), columns))
show.show(figures.ladder(rows, stories.present(rows, steps, "return"), metric="return", references=lines))

# %% [markdown]
# ## Learning curves
#
# Mean return of greedy episodes along the environment steps, and with it the effective rank of the latents of the same
# 256 states. First the ladder of depths, then the parts of SPR one by one.

# %%
axes = {"return": "mean return (points an episode)", "rank": "effective rank of latents"}
show.show(pixels.along(rows, ("rainbow", "spr@K=1", "spr"), axes, xlabel="environment steps", references=lines))
show.show(pixels.along(rows, ("spr", "ema", "no_mask", "no_stop_grad"), axes, xlabel="environment steps"))
show.show(pixels.along(rows, ("no_aug_rainbow", "no_aug", "no_aug_ema"), axes, xlabel="environment steps"))

# %% [markdown]
# ## What is foreseen
#
# Cosine of foreseen and true projection, k steps ahead, on stretches of play that no agent took part in. A high cosine
# proves nothing: after a collapse it is 1. Therefore beside it the share of the 256 foreseen that are nearest to *their
# own* future among all 256 (chance: 0.4 %). `rainbow` has a model as well, which nothing ever taught.

# %%
show.show(pixels.along(rows, steps, {"cosine": "cosine, foreseen and true", "match": "own future recognised (share)"},
                       xlabel="steps ahead, k"))  # fmt: skip

# %% [markdown]
# ## Three episodes, read closely
#
# The same episode seed, played greedily by three agents: the steps with reward and the last ones. Where bars are alike,
# the agent sees no difference between its actions. Does the one that loses the ball know that it is about to? (Its
# values should fall towards 0 before the end.)

# %%
NO_RUN = "No run of this unit is in this machine's store, so there is nothing to look at: `make repro PAPERS=spr`."
kept = {name: pixels.episodes(artifacts, name) for name in ("rainbow", "spr", "no_stop_grad")}
for name, episodes in kept.items():
    if episodes:
        total, count = sum(step["reward"] for step in episodes[0]), len(episodes[0])
        show.say(f"`{name}`: {total:g} points in the first {count} steps")
        show.show(pixels.film(episodes[0], game.planes, game.actions))
if not any(kept.values()):
    show.say(NO_RUN)

# %% [markdown]
# ## Losses
#
# Means between checkpoints. A prediction loss that falls to 0 within the first checkpoint together with the rank is a
# collapse; one that rises again while the return rises means that the encoder finds more to tell.

# %%
points = stories.training_points(events)
if points:
    show.show(figures.curves(points, ("q_loss", "spr_loss", "grad_norm", "rank")))
else:
    show.say(NO_RUN)

# %% [markdown]
# ## Exercises
#
# 1. In the loss by hand, let the gradient flow into `came` as well. Which of the two vectors of a pair moves, and what
#    happens after many steps to a batch of pairs?
# 2. `{"predict.weight": 0.0}`: which variants must now give the same numbers, and which still differ? Why?
# 3. Compute the effective rank of `noise` centred and not, and of the collapsed matrix. Which would you monitor?
# 4. `{"learn.every": 2}` halves the updates. Does `spr` lose more than `rainbow`?
# 5. MinAtar's frames are on a canvas with an empty margin here (difference 3). What would a shift do to Breakout's
#    paddle without it? Look at `no_aug` before you answer whether shifts help at all.
# 6. `match@k` of `spr` falls with k. In Breakout everything but the disobeyed actions can be foreseen. How large can
#    `match@5` be?

# %%
if unit:
    print(f"{len(own)} metric rows: {unit.run.path.relative_to(root) / 'rows.jsonl'}")
    print(f"executed by the sweep: results/{paper}/metrics.jsonl")
else:
    print(f"nothing was written; published rows: results/{paper}/metrics.jsonl")
