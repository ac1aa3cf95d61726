# %% [markdown]
# # Self-correction: can a policy learn to repair its own answers?
#
# **The claim** (SCoRe, [arXiv 2409.12917](https://arxiv.org/abs/2409.12917)): asked to check and write its answer
# again, a language model gets worse; fine-tuning on its own successful corrections teaches it to repeat itself;
# two-stage reinforcement learning on its own two-turn dialogues makes the second answer better than the first.
#
# **What you will see**: the equations beside the functions that implement them; rewards, advantages and the
# decomposition of a gain into *confidence* and *critique* worked out by hand; eight variants from one base model;
# what each repaired, broke and copied; dialogues; training curves.
#
# **How long it takes**: nothing if this unit was run before (`make repro` runs seeds 0–4), otherwise about four
# minutes on one CPU core at the profile `cpu`, seconds at `smoke`. Nothing here needs a GPU.

# %% tags=["parameters"]
paper: str = "score"  # folder below papers/
env: str = "countdown-answer-v1"  # countdown-answer-v1 (checking is easy) or arithmetic-v1 (it is not)
seed: int = 0  # training seed; 0-4 are those of the published tables
profile: str = "cpu"  # smoke (seconds) or cpu (minutes)
overrides: dict = {}  # changed parameters by dotted name, for example {"rl.alpha": 10.0}

# %%
import importlib
from pathlib import Path

import torch

from common.evaluate.correction import relative_score
from common.learn import policy_gradient as pg
from common.sweep.unit import MissingInput, open_unit, project_root

# By name: a changed plot is no change of a result, so finished units stay finished.
report = ("figures", "stories", "tables", "show", "correction")
figures, stories, tables, show, pictures = (importlib.import_module(f"common.report.{name}") for name in report)
root = project_root()

# %% [markdown]
# ## The idea
#
# A dialogue has two turns: the task $x_1$, an answer $y_1$, the request to check and write it again, an answer $y_2$.
# The environment knows whether an answer is right, $r_k\in\{0,1\}$; the policy is never told. Training on $r_1+r_2$
# alone has an easy way out: give the best answer at once and repeat it. SCoRe therefore trains in two stages,
#
# $$\text{I:}\;\max\; \mathbb E\big[r_2-\beta_2\,\mathrm{KL}(\pi(\cdot|x_1)\,\|\,\pi_{ref}(\cdot|x_1))\big]\qquad
# \text{II:}\;\max\; \mathbb E\Big[\sum_{k}r_k-\beta_1\mathrm{KL}_k+\alpha\,(r_2-r_1)\Big]$$
#
# Stage I pins the first turn to the base, so that only the second one can improve; in stage II the bonus pays for a
# repaired answer and charges for a broken one.

# %%
show.say(*map(stories.source, (pg.turn_rewards, pg.leave_one_out)))

# %% [markdown]
# Both stages are REINFORCE: each turn's tokens are pushed by *their own* turn's reward beyond a baseline, the mean of
# the other samples of the same task, and held to the base model by a KL that is exact at every sampled token:
#
# $$L=\frac1N\sum_{\text{dialogues}}\sum_k\Big[-A_k\log\pi(y_k|x_k)+\beta_k\,\mathrm{KL}_k\Big]$$

# %%
show.say(*map(stories.source, (pg.policy_gradient_loss, pg.token_kls)))

# %% [markdown]
# ## By hand
#
# Four samples of one task, one of each kind: wrong twice, repaired, broken, right twice. What do the stages pay, and
# what is left after the baseline?

# %%
kinds = ("wrong, wrong", "repaired", "broken", "right, right")
correct = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
stages = (("stage I", (0, 1), 0.0), ("stage II, α = 0", (1, 1), 0.0), ("stage II, α = 2", (1, 1), 2.0))
for name, weights, bonus in stages:
    rewards = pg.turn_rewards(correct, weights=weights, bonus=bonus)
    advantages = pg.leave_one_out(rewards[None])[0]
    print(name)
    for kind, reward, advantage in zip(kinds, rewards.tolist(), advantages.tolist()):
        shown = [f"turn {k + 1}: reward {reward[k]:+.0f}, advantage {advantage[k]:+.2f}" for k in (0, 1)]
        print(f"   {kind:13s} {'   '.join(shown)}")

# %% [markdown]
# A gain between two turns has two sources: *confidence*, CL = P(right second | right first), and *critique*,
# CS = P(right second | wrong first): $Acc_2=Acc_1\,CL+(1-Acc_1)\,CS$. Read the paper's own table with it:

# %%
for name, first, kept, repaired in (("base", 0.526, 0.158, 0.046), ("SCoRe", 0.600, 0.014, 0.058)):  # acc, c→i, i→c
    cl, cs = 1 - kept / first, repaired / (1 - first)
    second = first * cl + (1 - first) * cs
    print(f"{name:6s} CL {cl:.2f}  CS {cs:.3f}  →  Acc₂ {second:.3f}, Δ {second - first:+.3f}, "
          f"RSS {relative_score(first, second):.2f}")
print("Most of the gain is confidence: right answers are no longer broken.")

# %% [markdown]
# ## The run
#
# One unit trains and evaluates *all* variants from the same base model, with equally many sampled answers in equally
# many updates. It is computed once: opened again it is read from the run store, after a kill it goes on where it was.

# %%
try:
    unit = open_unit(paper=paper, env=env, seed=seed, profile=profile, overrides=overrides)
except MissingInput as missing:  # wrong names and values do stop here
    unit = None
    print(f"Not run here, the latest published result is shown instead. {missing}")
own, artifacts, events = [], Path("none"), Path("none")
if unit:
    artifacts, events = unit.run.artifacts, unit.run.path / "events.jsonl"
    with show.progress(unit.run):
        own = importlib.import_module(f"papers.{paper}.method").run(unit)

# %% [markdown]
# ## Results, against the paper's
#
# The paper's numbers come from Gemini 1.5 Flash on MATH: compare directions, never sizes.

# %%
others, where = stories.published(root, paper, env, profile)
rows = stories.together(own, [] if overrides else others)
order = ("base", "self_refine", "star", "pair_sft", "single_turn_rl", "stage2_only", "no_bonus", "score")
ladder = stories.present(rows, order)
show.say("**In the paper**", stories.section(root / "papers" / paper / "README.md", "What the paper reports"),
         f"**Here.** {where} " + (f"This unit (seed {seed}) joins them." if own and not overrides else ""),
         tables.summary_table(rows, ladder, ("acc@1", "acc@2", "delta", "i2c", "c2i", "copy")))
show.show(pictures.turns(rows, ladder))

# %% [markdown]
# The lines are 95 % t-intervals over training seeds; with one seed there is none, and no claim can be judged. That was
# sampled at temperature 1, as the variants are trained. The same with greedy decoding as in the paper, where the base
# already repeats nearly all of its answers:

# %%
show.show(pictures.turns(rows, ladder, prefix="greedy_"))

# %% [markdown]
# ## Repaired, broken, copied
#
# Δ is the share of repaired answers minus the share of broken ones, exactly. A policy that always repeats itself has
# Δ = 0: look at the copy rate before praising a Δ near zero.

# %%
show.show(pictures.transitions(rows, ladder))
show.show(pictures.confidence_critique(rows, ladder))

# %% [markdown]
# ## Dialogues
#
# Sampled first and second answers to the same tasks; those on which the variants disagree come first.

# %%
told = {name: pictures.dialogues(artifacts, name) for name in ("base", "star", "single_turn_rl", "score")}
NO_RUN = "No run of this unit is in this machine's store, so there is nothing to look at: `make repro` runs it."
show.say(pictures.dialogue_table(told) if all(told.values()) else NO_RUN)

# %% [markdown]
# ## Learning, and what goes wrong
#
# Accuracy of both turns on the training tasks while they are sampled, how far each turn has moved from the base, and
# how often the second answer repeats the first. Watch stage I: `kl_1` must stay near zero while `acc_2` rises; where
# `acc_1` rises with it, the shared weights went around the pin. Copying that rises in stage II is the collapse the
# paper warns of.

# %%
points = [p for p in stories.training_points(events) if p["variant"] in ("stage1", "score", "no_bonus", "stage2_only")]
if points:
    show.show(figures.curves(points, ("acc_1", "acc_2", "kl_1", "kl_2", "copy", "grad_norm")))
else:
    show.say(NO_RUN)

# %% [markdown]
# ## Exercises
#
# 1. In the toy, set α = 10. Which advantages change their sign? Why does −α·r₁ have no effect in expectation when each
#    turn is credited with its own reward only (difference 5 in `method.py`)?
# 2. `overrides = {"rl.stage1_updates": 0}` must give `no_bonus` and `score` what `stage2_only` gets. Which numbers
#    agree exactly, which do not, and why?
# 3. Set `{"rl.beta2": 1.0}`. Does a stronger pin leave turn 1 where it was, and what does it cost turn 2?
# 4. Compare `countdown-answer-v1` with `arithmetic-v1`. On which does CS rise, on which only CL? Why should it matter
#    that a Countdown answer can be checked by evaluating it?
# 5. Write a null test: shuffle the rewards among dialogues. What must the ladder show?

# %%
if unit:
    print(f"{len(own)} metric rows: {unit.run.path / 'rows.jsonl'}")
    print(f"executed by the sweep: results/{paper}/metrics.jsonl")
else:
    print(f"nothing was written; published rows: results/{paper}/metrics.jsonl")
