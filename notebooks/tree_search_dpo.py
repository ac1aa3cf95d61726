# %% [markdown]
# # Tree search and preference learning: does a search teach a policy more than its own episodes do?
#
# A policy can be trained on its successful episodes, on pairs of whole episodes, or on pairs of single actions whose values a
# search has estimated. Papers of this family build preference pairs, with or without a search tree, and train on them by DPO
# and its relatives.
#
# **What you will see**: the loss that the papers share; the idea of one paper (parameter `paper`), with its equations beside
# the functions that implement them; its results next to the paper's, at equal budgets; how many pairs are *right* according to
# exact values; trees and episodes; the verdicts on all papers of the family.
#
# **How long it takes**: under a minute, since nothing is trained: published results are shown. With `train = True` the
# notebook trains and evaluates all variants of the paper from one base model, two to ten minutes on one CPU core at the
# profile `cpu`, seconds at `smoke`. Nothing here needs a GPU.

# %% tags=["parameters"]
paper: str = "agent_q"  # a paper of this family: a folder below papers/
env: str = ""  # one of the paper's environments; "" is its first
seed: int = 0  # training seed
profile: str = "cpu"  # smoke (seconds), cpu (minutes), smol (a pretrained model, 5 to 30 minutes where recorded) or gpu
overrides: dict = {}  # changed parameters by dotted name, for example {"search.alpha": 1.0}
train: bool = False  # whether to compute this unit here, unless it is finished

# %%
from common.report.story import open_story  # before anything slow, so that a wrong name or value stops here at once

story = open_story(paper=paper, env=env, seed=seed, profile=profile, overrides=overrides, train=train)

# %% [markdown]
# ## What is shared: a preference pair and its loss
#
# In a state $s$ the action (or the whole answer) $a_w$ is preferred to $a_l$. Direct preference optimisation raises the margin
# between the two, measured against a reference policy, often the one that sampled them:
#
# $$L=-\log\sigma\Big(\beta\Big[\log\frac{\pi(a_w|s)}{\pi_{ref}(a_w|s)}
# -\log\frac{\pi(a_l|s)}{\pi_{ref}(a_l|s)}\Big]\Big)$$
#
# The loss starts at $\ln 2$, where policy and reference agree. It looks at the *difference* alone: it can fall while both
# actions become less likely and probability goes to actions that nobody sampled. So watch both log-ratios. By hand:

# %%
import torch

from common.learn.losses import dpo_losses
from common.report import show

show.say(show.source(dpo_losses))
stored = torch.log(torch.tensor([0.2, 0.6]))  # log π_ref of the preferred and of the other action
for chosen, rejected in ((0.2, 0.6), (0.4, 0.4), (0.1, 0.1)):
    now = torch.log(torch.tensor([chosen, rejected]))
    loss = dpo_losses(now[:1], now[1:], stored[:1], stored[1:], beta=1.0, weights=torch.ones(1)).item()
    print(f"π(a_w) = {chosen}, π(a_l) = {rejected}: loss {loss:.3f}")
print("The last two losses are equal, though in the last one the preferred action has become half as likely as it was.")

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
# ## Trees, pairs and episodes
#
# Environments with an exact solver tell what every action is worth, so that each pair can be checked: is the preferred action
# really better? Below: what the unit kept of its searches and episodes.

# %%
story.examples()

# %% [markdown]
# ## Training, update by update
#
# DPO starts at ln 2 = 0.693 when the stored log-probabilities belong to the policy in training. If the chosen side's log-ratio
# falls along with the rejected one's, probability leaves both.

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
# 1. In the cell on the loss, which $\beta$ makes the second pair's loss half the first one's? What happens to the third?
# 2. Let a share $\varepsilon$ of the pairs be the wrong way round. Which difference in the brackets of the loss minimises its
#    mean, and what becomes of it as $\varepsilon$ approaches ½? How large is it for the pairs of `agent_q`?

# %%
story.exercises()

# %%
story.end()
