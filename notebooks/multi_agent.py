# %% [markdown]
# # Multi-agent training: can agents that are trained together become better ones?
#
# Several policies, or one policy in several roles, act together: they answer, criticise and refine, or discuss and vote. Only
# the outcome is rewarded. Papers of this family differ in how that reward is divided among the agents.
#
# **What you will see**: what teams must be compared with; the idea of one paper (parameter `paper`), with its equations beside
# the functions that implement them; its results next to the paper's; what each agent learned; dialogues before and after
# training; the verdicts on all papers of the family.
#
# **How long it takes**: under a minute, since nothing is trained: published results are shown. With `train = True` the
# notebook trains and evaluates all variants of the paper from one base model, two to ten minutes on one CPU core at the
# profile `cpu`, seconds at `smoke`. Nothing here needs a GPU.

# %% tags=["parameters"]
paper: str = "malt"  # a paper of this family: a folder below papers/
env: str = ""  # one of the paper's environments; "" is its first
seed: int = 0  # training seed
profile: str = "cpu"  # smoke (seconds), cpu (minutes), smol (a pretrained model, 5 to 30 minutes where recorded) or gpu
overrides: dict = {}  # changed parameters by dotted name, for example {"threshold": 0.3}
train: bool = False  # whether to compute this unit here, unless it is finished

# %%
from common.report.story import open_story  # before anything slow, so that a wrong name or value stops here at once

story = open_story(paper=paper, env=env, seed=seed, profile=profile, overrides=overrides, train=train)

# %% [markdown]
# ## What is shared: credit, and a fair opponent
#
# An agent's own turn is one of many causes of a reward $R$. REINFORCE credits it with $R-b$, where the baseline $b$ may depend
# on everything *before* the turn but not on the turn itself: the expected gradient stays the same, its variance
# falls. The mean reward of the *other* samples of the same task is such a baseline.
#
# A team that speaks three times per answer has spent three times the tokens. Its opponent is therefore not one answer of a
# single agent but as many as cost the same, put to a vote. By hand: credit for four samples, and a majority of five answers,
# whose expected correctness is exact, ties included:

# %%
import torch

from common.evaluate.votes import majority
from common.learn.policy_gradient import leave_one_out
from common.report import show

show.say(show.source(leave_one_out), show.source(majority))
rewards = [1.0, 0.0, 0.0, 1.0]
print("rewards", rewards, "advantages", [round(a, 2) for a in leave_one_out(torch.tensor([rewards]))[0].tolist()])
for answers in ("AAbcd", "AbbcA", "Abcde"):  # upper case is right
    print(f"votes {answers}: right with probability {majority(answers, [a.isupper() for a in answers]):.2f}")

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
# ## Dialogues before and after training
#
# Who said what, on tasks where training changed the outcome. All variants meet the same random numbers.

# %%
story.examples()

# %% [markdown]
# ## Training, update by update
#
# Which metrics are shown, the paper decides: accuracies and distances to the base model of each agent, losses and log-ratios
# of preference pairs, or the share of games won.

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
# 1. Add a constant to all four rewards of the cell on credit. What happens to the advantages, and why must it?
# 2. A second speaker that copies the first answer gets the same reward. What does the first speaker learn from that, which a
#    single agent would not?
# 3. Three independent answers, each right with probability $p$, are put to a vote. When is the vote better than one answer if
#    all wrong answers agree, and when if no two of them do? What does that mean for teams that are compared with a vote?

# %%
story.exercises()

# %%
story.end()
