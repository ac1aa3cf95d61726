# %% [markdown]
# # World models: does it help an agent to foresee what its actions lead to?
#
# A world model predicts the next state from a state and an action: a page of text, or a vector of a network's own. It can teach
# an agent before imitation, replace the environment while training, or let it look ahead before acting.
# WKM (`wkm`) is about another kind of model: one that writes what there is to know of a task or a state, beside the agent.
#
# **What you will see**: how foresight is measured; the idea of one paper (parameter `paper`), with its equations beside the
# functions that implement them; its results next to the paper's; how far the model foresees; episodes; the verdicts on all
# papers of the family.
#
# **How long it takes**: under a minute, since nothing is trained: published results are shown. With `train = True` the
# notebook trains and evaluates all variants of the paper from one base model, two to ten minutes on one CPU core at the
# profile `cpu`, seconds at `smoke`. Nothing here needs a GPU.

# %% tags=["parameters"]
paper: str = "early_experience"  # a paper of this family: a folder below papers/
env: str = ""  # one of the paper's environments; "" is its first
seed: int = 0  # training seed
profile: str = "cpu"  # smoke (seconds), cpu (minutes), smol (a pretrained model, 5 to 30 minutes where recorded) or gpu
overrides: dict = {}  # changed parameters by dotted name, for example {"learn.world_updates": 200}
train: bool = False  # whether to compute this unit here, unless it is finished

# %%
from common.report.story import open_story  # before anything slow, so that a wrong name or value stops here at once

story = open_story(paper=paper, env=env, seed=seed, profile=profile, overrides=overrides, train=train)

# %% [markdown]
# ## How foresight is measured
#
# Let $p(s'|s,a)$ be the model. From a true state it imagines the next one, from the imagined one the next, and so on: errors
# feed on themselves, so fidelity is reported *by depth*. If each step is right with probability $q$ and an error is never
# repaired, a rollout of depth $d$ is right with probability $q^d$. What matters in the end is whether foresight changes
# decisions for the better, so every paper is judged by success or return at equal budgets, not by fidelity.
#
# Two controls belong to each claim: a model of the same size and training that is *not shown* the state (it knows what states
# look like, not what leads to them), and the real environment in the place of the model (all that foresight could bring).

# %%
for q in (0.99, 0.9, 0.7):
    print(f"one step right with {q:.2f}: " + ", ".join(f"depth {d} {q**d:.2f}" for d in (1, 2, 3, 5)))

# %%
story.idea()

# %% [markdown]
# ## The run
#
# One unit trains and evaluates *all* variants of the paper from the same base model on the same tasks, so that they can be
# compared in pairs. It is computed once: opened again it is only read, and after an interruption it goes on where it was.

# %%
story.run()

# %% [markdown]
# ## Results, against the paper's
#
# The paper's numbers come from models up to ten thousand times as large: compare directions, never sizes. Intervals are
# 95 % t-intervals over training seeds; with one seed there is none, and no claim can be judged.

# %%
story.results()

# %% [markdown]
# ## Imagined against real
#
# Cases from the unit: what a model imagined and what came, what a look-ahead decided, episodes before and after training.

# %%
story.examples()

# %% [markdown]
# ## Training, update by update
#
# The log-probability of what is imitated or foreseen (`logp`), the losses of a value function and of prediction, the return of
# the episodes in between: which of them are shown, the paper decides.

# %%
story.curves()

# %% [markdown]
# ## The family
#
# Verdicts on all papers of the family, at every scale that was run.

# %%
story.compare()

# %% [markdown]
# ## Exercises
#
# 1. At which depth does a model that is right in 9 of 10 steps do worse than a coin toss? What does that mean for planning?
# 2. Why is a model that was never shown the present state the right control, and not an untrained model?

# %%
story.exercises()

# %%
story.end()
