# %% [markdown]
# # Self-correction: can a policy learn to repair its own answers?
#
# A policy answers, is asked to check and write the answer again, and answers a second time. Nobody tells it whether the
# first answer was right. Papers of this family train policies so that the second answer is better than the first.
#
# **What you will see**: how self-correction is measured; the idea of one paper (parameter `paper`), with its equations
# beside the functions that implement them; its results next to the paper's; what was repaired, broken and copied; single
# dialogues; the verdicts on all papers of the family.
#
# **How long it takes**: under a minute, since nothing is trained: published results are shown. With `train = True` the
# notebook trains and evaluates all variants of the paper from one base model, two to ten minutes on one CPU core at the
# profile `cpu`, seconds at `smoke`. Nothing here needs a GPU.

# %% tags=["parameters"]
paper: str = "score"  # a paper of this family: a folder below papers/
env: str = ""  # one of the paper's environments; "" is its first
seed: int = 0  # training seed
profile: str = "cpu"  # smoke (seconds), cpu (minutes), smol (a pretrained model, 5 to 30 minutes where recorded) or gpu
overrides: dict = {}  # changed parameters by dotted name, for example {"rl.alpha": 10.0}
train: bool = False  # whether to compute this unit here, unless it is finished

# %%
from common.report.story import open_story  # before anything slow, so that a wrong name or value stops here at once

story = open_story(paper=paper, env=env, seed=seed, profile=profile, overrides=overrides, train=train)

# %% [markdown]
# ## How self-correction is measured
#
# The environment knows whether the answer of turn $k$ is right, $r_k\in\{0,1\}$. From the first turn to the last, accuracy
# changes because right answers are broken and wrong ones repaired:
#
# $$\Delta = Acc_2-Acc_1=\underbrace{-Acc_1\,(1-CL)}_{\text{confidence}}+\underbrace{(1-Acc_1)\,CS}_{\text{critique}},$$
#
# $$CL=P(r_2{=}1\,|\,r_1{=}1),\quad CS=P(r_2{=}1\,|\,r_1{=}0)$$
#
# Always repeating oneself gives $\Delta=0$; $RSS=\frac{Acc_2-Acc_1^2}{2Acc_1(1-Acc_1)}$ puts $\Delta$ on a scale on
# which that is ½. Between two policies $Acc_1$, $CL$ and $CS$ all move; the change of $\Delta$ is split by Shapley
# values. As an example, SCoRe's own table read in this way:

# %%
from common.evaluate import decompose
from common.report import correction, show

table = {"base": (0.526, 0.158, 0.046), "SCoRe": (0.600, 0.014, 0.058)}  # acc@1, right → wrong, wrong → right
levels = {name: decompose.Levels(acc, 1 - c2i / acc, i2c / (1 - acc)) for name, (acc, c2i, i2c) in table.items()}
for name, one in levels.items():
    print(f"{name:6s} Acc₁ {one.acc_1:.3f}  CL {one.cl:.2f}  CS {one.cs:.3f}  Δ {one.delta:+.3f} = confidence "
          f"{one.confidence:+.3f} and critique {one.critique:+.3f}")
moved = decompose.change(levels["base"], levels["SCoRe"])
print(f"change of Δ {moved.total:+.3f}: by Acc₁ {moved.first:+.3f}, by CL {moved.confidence:+.3f}, by CS "
      f"{moved.critique:+.3f}. Most of the gain is that right answers are no longer broken.")
show.say(show.source(decompose.change))

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
# ## Repaired, broken, copied
#
# $\Delta$ is the share of repaired answers minus the share of broken ones, exactly. A policy that always repeats itself has
# $\Delta = 0$: look at the copy rate before praising a $\Delta$ near zero. Then the two parts of each $\Delta$.

# %%
if story.rows:
    show.display_parts(correction.pictures(story.rows, story.ladder))

# %% [markdown]
# ## Single dialogues
#
# Sampled answers to the same tasks, turn by turn; those on which the variants disagree at the end come first.

# %%
story.examples()

# %% [markdown]
# ## Training, update by update
#
# `acc_1` and `acc_2` are accuracies of the answers sampled for an update, `kl_1` and `kl_2` distances to the base model,
# `logp` the log-probability of imitated answers: what rises towards 0 within few updates has been memorised.

# %%
story.curves()

# %% [markdown]
# ## The family
#
# Verdicts on all papers of the family, and how far each variant moved from the base on this environment, split into three
# causes: more right first answers (which leave less to repair), keeping right ones, repairing wrong ones.

# %%
story.compare()
show.say(correction.change_table(story.family_rows(), f"{story.env}/test"))

# %% [markdown]
# ## Exercises
#
# 1. Compare two environments of a paper. On which does $CS$ rise, on which only $CL$? Why should it matter that a Countdown
#    answer can be checked by evaluating it?
# 2. If each turn kept right answers with probability $CL$ and repaired wrong ones with $CS$, accuracy would move towards
#    $CS/(1-CL+CS)$ over many turns. Compute it from the table above: is the last turn there?

# %%
story.exercises()

# %%
story.end()
