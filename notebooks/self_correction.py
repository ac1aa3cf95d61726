# %% [markdown]
# # Self-correction: can a policy learn to repair its own answers?
#
# Three papers ask it, and this notebook serves them all (parameter `paper`):
#
# - `score` ([SCoRe](https://arxiv.org/abs/2409.12917)): asked to write its answer again, a language model gets worse;
#   two-stage reinforcement learning on its own two-turn dialogues makes the second answer better than the first.
# - `rise` ([RISE](https://arxiv.org/abs/2407.18219)): fine-tuned on its own dialogues that end in a better answer, a
#   policy improves turn by turn, and five turns beat a vote of five independent answers.
# - `confidence_critique` ([2412.19513](https://arxiv.org/abs/2412.19513)): what happens between two answers is keeping
#   right ones (*confidence*) and repairing wrong ones (*critique*); training one costs the other, a mixture helps both.
#
# **What you will see**: the equations beside the functions that implement them, worked out by hand; all variants of
# the paper from one base model; what each repaired, broke and copied; which part of a gain is confidence; dialogues;
# curves.
#
# **How long it takes**: nothing if this unit was run before (`make repro` runs seeds 0–4), otherwise two to five
# minutes on one CPU core at the profile `cpu`, seconds at `smoke`. Nothing here needs a GPU.

# %% tags=["parameters"]
paper: str = "score"  # score, rise or confidence_critique
env: str = "countdown-answer-v1"  # or arithmetic-v1; SCoRe with smol also gsm8k-v1, math500-v1, reasoning-gym-v1
seed: int = 0  # training seed; 0-4 are those of the published tables
profile: str = "cpu"  # smoke (seconds), cpu (minutes), or for SCoRe smol: SmolLM2-135M, an hour
overrides: dict = {}  # changed parameters by dotted name, for example {"rl.alpha": 10.0}

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

from common.evaluate import decompose
from common.evaluate import votes as voting
from common.learn import policy_gradient as pg
from common.learn import weights
from common.report import correction as pictures
from common.report import figures, gains, show, stories, tables

root = project_root()

# %% [markdown]
# ## The idea, and how it is measured
#
# A dialogue: the task $x$, an answer $y_1$, the request to check and write it again, an answer $y_2$, and so on. The
# environment knows whether an answer is right, $r_k\in\{0,1\}$; the policy is never told. From the first turn to the
# last, accuracy changes because right answers are broken and wrong ones repaired:
#
# $$\Delta = Acc_2-Acc_1=\underbrace{-Acc_1\,(1-CL)}_{\text{confidence}}+\underbrace{(1-Acc_1)\,CS}_{\text{critique}},
# \qquad CL=P(r_2{=}1\,|\,r_1{=}1),\quad CS=P(r_2{=}1\,|\,r_1{=}0)$$
#
# Always repeating oneself gives $\Delta=0$; $RSS=\frac{Acc_2-Acc_1^2}{2Acc_1(1-Acc_1)}$ puts $\Delta$ on a scale on
# which that is ½. Between two policies $Acc_1$, $CL$ and $CS$ all move; the change of $\Delta$ is split by Shapley
# values. Read SCoRe's own table with it:

# %%
told = {"base": (0.526, 0.158, 0.046), "SCoRe": (0.600, 0.014, 0.058)}  # acc@1, right → wrong, wrong → right
levels = {name: decompose.Levels(acc, 1 - c2i / acc, i2c / (1 - acc)) for name, (acc, c2i, i2c) in told.items()}
for name, one in levels.items():
    print(f"{name:6s} Acc₁ {one.acc_1:.3f}  CL {one.cl:.2f}  CS {one.cs:.3f}  Δ {one.delta:+.3f} = confidence "
          f"{one.confidence:+.3f} and critique {one.critique:+.3f}")
moved = decompose.change(levels["base"], levels["SCoRe"])
print(f"change of Δ {moved.total:+.3f}: by Acc₁ {moved.first:+.3f}, by CL {moved.confidence:+.3f}, by CS "
      f"{moved.critique:+.3f}. Most of the gain is that right answers are no longer broken.")
show.say(stories.source(decompose.change))

# %% [markdown]
# ## SCoRe: reinforcement learning in two stages
#
# Training on $r_1+r_2$ alone has an easy way out: give the best answer at once and repeat it. Therefore
#
# $$\text{I:}\;\max\; \mathbb E\big[r_2-\beta_2\,\mathrm{KL}(\pi(\cdot|x_1)\,\|\,\pi_{ref}(\cdot|x_1))\big]\qquad
# \text{II:}\;\max\; \mathbb E\Big[\sum_{k}r_k-\beta_1\mathrm{KL}_k+\alpha\,(r_2-r_1)\Big]$$
#
# Stage I pins the first turn to the base, so that only the second one can improve; in stage II the bonus pays for a
# repaired answer and charges for a broken one. Both are REINFORCE, $L=\frac1N\sum\sum_k[-A_k\log\pi(y_k|x_k)+
# \beta_k\mathrm{KL}_k]$: each turn's tokens are pushed by *their own* turn's reward beyond the mean of the other
# samples of the task. By hand, four samples of one task: what do the stages pay, and what does the baseline leave?

# %%
show.say(*map(stories.source, (pg.turn_rewards, pg.leave_one_out, pg.policy_gradient_loss)))
kinds = ("wrong, wrong", "repaired", "broken", "right, right")
correct = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
for name, turns, bonus in (("I", (0, 1), 0.0), ("II, α = 0", (1, 1), 0.0), ("II, α = 2", (1, 1), 2.0)):
    rewards = pg.turn_rewards(correct, weights=turns, bonus=bonus)
    advantages = pg.leave_one_out(rewards[None])[0]
    print(f"stage {name}")
    for kind, reward, advantage in zip(kinds, rewards.tolist(), advantages.tolist()):
        cells = [f"turn {k + 1}: reward {reward[k]:+.0f}, advantage {advantage[k]:+.2f}" for k in (0, 1)]
        print(f"   {kind:13s} {'   '.join(cells)}")

# %% [markdown]
# ## RISE: imitate the better answer in one's own situation
#
# A question is a decision process of up to $K$ turns; the state is the question with the last attempt. In iteration $i$
# the policy plays $k=i+1$ turns; the last one is replaced by the best of $N$ own answers (*self*) or an oracle's
# (*distil*); every turn is imitated in its state by $\max\sum e^{r/\tau}\log\pi(y|s)$. At test: five turns, against a
# vote of five independent answers. If each turn kept right answers with $CL$ and repaired wrong ones with $CS$,
# accuracy would move towards $CS/(1-CL+CS)$, wherever it starts. By hand: weights, votes, and where two policies end.

# %%
show.say(*map(stories.source, (weights.reward_weight, voting.majority)))
for tau in (0.1, 0.4, 10.0):
    print(f"τ = {tau:4.1f}: a right answer weighs {weights.reward_weight(1, tau) / weights.reward_weight(0, tau):,.1f} "
          "times a wrong one")
for answers in ("AAbcd", "AbbcA", "Abcde"):  # upper case is right
    print(f"votes {answers}: right with probability {voting.majority(answers, [a.isupper() for a in answers]):.2f}")
for name, acc, cl, cs in (("forgets and guesses", 0.3, 0.6, 0.1), ("keeps, repairs little", 0.3, 0.95, 0.1)):
    path = [acc]
    for _ in range(4):
        path.append(path[-1] * cl + (1 - path[-1]) * cs)
    print(f"{name:22s} {' → '.join(f'{p:.2f}' for p in path)}   limit {cs / (1 - cl + cs):.2f}")

# %% [markdown]
# ## Confidence and critique, trained one by one
#
# From the base's own first answers on training tasks: a right one followed by itself (*confidence*), a wrong one
# followed by a right one (*critique*), or half of each (*mixture*); equally many examples and updates for all, and for
# plain fine-tuning on first turns (*sft*). Levels are measured by ten sampled dialogues of each task, and without any
# sampling from the policy's probabilities of all answers, which can be listed here (`prob_…`).
#
# ## The run
#
# One unit trains and evaluates *all* variants of the paper from the same base model. It is computed once: opened again
# it is read from the run store, after a kill it goes on where it was.

# %%
own, artifacts, events = [], Path("none"), Path("none")
if unit:
    artifacts, events = unit.run.artifacts, unit.run.path / "events.jsonl"
    with show.progress(unit.run):
        own = importlib.import_module(f"papers.{paper}.method").run(unit)

# %% [markdown]
# ## Results, against the paper's
#
# The paper's numbers come from models ten thousand times as large: compare directions, never sizes. Intervals are 95 %
# t-intervals over training seeds; with one seed there is none, and no claim can be judged. Answers are sampled at
# temperature 1, as the variants are trained.

# %%
others, where = stories.published(root, paper, env, profile)
rows = stories.together(own, [] if overrides else others)
rise = ("rise_self_it1", "rise_self", "rise_filtered", "rise_once", "rise_distil_it1", "rise_distil")
steps = ("self_refine", "star", "pair_sft", "single_turn_rl", "stage2_only", "no_bonus", "score", "rft", *rise,
         "sft", "confidence", "critique", "mixture")  # fmt: skip
ladder = stories.present(rows, ("base", *steps))
metrics = {"rise": ("acc@1", "acc@5", "delta", "vote", "any", "parallel_vote", "parallel_any"),
           "confidence_critique": ("acc@1", "acc@2", "cl", "cs", "rss", "prob_cl", "prob_cs", "prob_missing")}
columns = metrics.get(paper, ("acc@1", "acc@2", "delta", "i2c", "c2i", "copy"))
show.say("**In the paper**", stories.section(root / "papers" / paper / "README.md", "What the paper reports"),
         f"**Here.** {where} " + (f"This unit (seed {seed}) joins them." if own and not overrides else ""),
         tables.summary_table(rows, ladder, columns))
show.show(gains.by_turn(rows, ladder) if paper == "rise" else pictures.turns(rows, ladder))

# %% [markdown]
# SCoRe reports greedy decoding. Here the greedy base already repeats nearly all of its answers, so that hardly anything
# is left to be seen between two turns; this is why everything above was sampled.

# %%
if paper == "score":
    show.show(pictures.turns(rows, ladder, prefix="greedy_"))
else:
    show.say(f"`{paper}` is measured with sampled answers only.")

# %% [markdown]
# ## Repaired, broken, copied
#
# Δ is the share of repaired answers minus the share of broken ones, exactly, from the first turn to the last. A policy
# that always repeats itself has Δ = 0: look at the copy rate before praising a Δ near zero.

# %%
show.show(pictures.transitions(rows, ladder))
show.show(pictures.confidence_critique(rows, ladder))

# %% [markdown]
# ## How much of a gain is confidence?
#
# First the two parts of each Δ. Then, for every paper of the family that has results, how far each variant moved from
# the base, and by what: more right first answers (which leave less to repair), keeping, or repairing.

# %%
show.show(gains.parts(rows, ladder))
family = ("score", "rise", "confidence_critique")
everything = {name: stories.published(root, name, env, profile)[0] for name in family} | {paper: rows}
everything = {name: [row for row in found if row.variant in ("base", *steps)] for name, found in everything.items()}
show.say(gains.change_table(everything, f"{env}/test"))

# %% [markdown]
# ## Dialogues
#
# Sampled answers to the same tasks, turn by turn; those on which the variants disagree at the end come first.

# %%
chosen = {"score": ("base", "star", "single_turn_rl", "score"), "rise": ("base", "rft", "rise_self", "rise_distil")}
told = {name: pictures.dialogues(artifacts, name) for name in chosen.get(paper, ("base", *steps[-3:]))}
NO_RUN = "No run of this unit is in this machine's store, so there is nothing to look at: `make repro` runs it."
show.say(pictures.dialogue_table(told) if all(told.values()) else NO_RUN)

# %% [markdown]
# ## Learning, and what goes wrong
#
# SCoRe: in stage I `kl_1` must stay near zero while `acc_2` rises; where `acc_1` rises with it, the shared weights went
# around the pin. Copying that rises in stage II is the collapse the paper warns of. The others fine-tune: `logp` is the
# log-probability of the imitated answers, and what rises towards 0 within few updates has been memorised.

# %%
untold = {"pair_sft", "star"} if paper == "score" else set()
points = [p for p in stories.training_points(events) if p["variant"] not in untold]
drawn = ("acc_1", "acc_2", "kl_1", "kl_2", "copy", "grad_norm") if paper == "score" else ("loss", "logp", "grad_norm")
if points:
    show.show(figures.curves(points, drawn))
else:
    show.say(NO_RUN)

# %% [markdown]
# ## Exercises
#
# 1. In SCoRe's toy, set α = 10. Which advantages change their sign? Why does −α·r₁ have no effect in expectation when
#    each turn is credited with its own reward only (difference 5 in `papers/score/method.py`)?
# 2. `score`, `{"rl.stage1_updates": 0}`: `no_bonus` and `score` must get what `stage2_only` gets. Which numbers agree?
# 3. `rise`, `{"sft.tau": 0.05}` and `{"sft.tau": 10.0}`: which variants do they come close to? Does τ matter?
# 4. Take CL and CS of RISE's table and compute the limit of the chain. Is turn 5 there? Where does the chain go wrong?
# 5. `confidence_critique`: train on twice as much critique as confidence (edit the mixture). Where on the line between
#    the two pure variants does it land, and is the line straight?
# 6. Compare the two environments. On which does CS rise, on which only CL? Why should it matter that a Countdown answer
#    can be checked by evaluating it?

# %%
if unit:
    print(f"{len(own)} metric rows: {unit.run.path.relative_to(root) / 'rows.jsonl'}")
    print(f"executed by the sweep: results/{paper}/metrics.jsonl")
else:
    print(f"nothing was written; published rows: results/{paper}/metrics.jsonl")
