# %% [markdown]
# # Tree-search DPO: does a search teach a policy more than its own episodes do?
#
# **The claim** (Agent Q, [arXiv 2408.07199](https://arxiv.org/abs/2408.07199)): preference pairs between single
# actions, taken from a search tree, train a better policy than pairs of whole episodes, those better than fine-tuning
# on successful episodes, and search at test time adds more on top.
#
# **What you will see**: the equations beside the functions that implement them; a search, a backup and a preference
# pair worked out by hand; the whole ladder trained from one base model; a search tree; how many pairs are *right*
# according to exact values; three episodes read closely; what went wrong.
#
# **How long it takes**: nothing if this unit was run before (`make repro` runs seeds 0–4), otherwise a few minutes
# on one CPU core at the profile `cpu`, seconds at `smoke`. Nothing here needs a GPU.

# %% tags=["parameters"]
paper: str = "agent_q"  # folder below papers/
env: str = "countdown-v1"  # one of the paper's environments: countdown-v1 or shop-v1
seed: int = 0  # training seed; 0-4 are those of the published tables
profile: str = "cpu"  # smoke (seconds), cpu (minutes), or with shop-v1 smol: SmolLM2-135M, an hour
overrides: dict = {}  # changed parameters by dotted name, for example {"search.alpha": 1.0}

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

from common.envs import load_panel, make
from common.learn.losses import dpo_losses
from common.report import figures, show, stories, tables
from common.search import draw, steps
root = project_root()

# %% [markdown]
# ## The idea
#
# At a state $s$ the policy proposes $K$ actions. Acting as its own critic it ranks them; the rank becomes a first value
# $\hat Q$. A search then tries actions and counts what came of them: $\tilde Q(s,a)=W/N$ over the $N$ simulations
# through $a$. Both are mixed, and UCB1 decides where to look next:
#
# $$Q=\alpha\,\tilde Q+(1-\alpha)\,\hat Q,\qquad
# a^\star=\arg\max_a\; Q(s,a)+c\,\sqrt{\ln N(s)\,/\,N(s,a)}$$

# %%
show.say(*map(stories.source, (steps.mix_q, steps.ucb1, steps.uct)))

# %% [markdown]
# A simulation that ends with reward $r$, $m$ steps after an action, is worth $\gamma^m r$ *at that action*, so detours
# cost. Two sibling actions whose values differ by more than $\theta$ make a pair $(a_w, a_l)$. DPO then raises the margin
# between them, measured against the log-probabilities stored when the actions were sampled:
#
# $$L=-\log\sigma\Big(\beta\Big[\log\frac{\pi(a_w|s)}{\pi_{gen}(a_w|s)}
# -\log\frac{\pi(a_l|s)}{\pi_{gen}(a_l|s)}\Big]\Big)$$

# %%
show.say(*map(stories.source, (steps.backup, dpo_losses)))

# %% [markdown]
# ## By hand
#
# Two actions: *a* was tried three times and won twice at once (W = 2), *b* was tried once and lost. The critic prefers
# *b*. Who is looked at next? Then *b* wins one step later, and the two become a pair.

# %%
(wins_a, n_a), (wins_b, n_b) = (2.0, 3), (0.0, 1)
rank_a, rank_b = steps.rank_to_value([2, 1], 2)
q_a, q_b = steps.mix_q(wins_a / n_a, rank_a, 0.5), steps.mix_q(wins_b / n_b, rank_b, 0.5)
print(f"Q(a) = ½·{wins_a / n_a:.3f} + ½·{rank_a:g} = {q_a:.3f}")
print(f"Q(b) = ½·{wins_b / n_b:g} + ½·{rank_b:g} = {q_b:.3f}")
print(f"UCB1: a {steps.ucb1(q_a, n_a, 4, c=0.5):.3f}, b {steps.ucb1(q_b, n_b, 4, c=0.5):.3f}: b is looked at next")
path = steps.backup([0, 1, 2], reward=1.0, gamma=0.95)
print("backup (node, return) from root to leaf:", [(node, round(value, 4)) for node, value in path])
q_b = steps.mix_q((wins_b + path[1][1]) / (n_b + 1), rank_b, 0.5)
print(f"now Q(b) = {q_b:.4f}; Q(b) − Q(a) = {q_b - q_a:.4f}: a pair at every θ below that")
stored = torch.log(torch.tensor([0.2, 0.6]))  # π_gen(b), π_gen(a)
for p in (0.2, 0.4):  # π(b) before and after an update that takes the difference from a
    now = torch.log(torch.tensor([p, 0.8 - p]))
    loss = dpo_losses(now[:1], now[1:], stored[:1], stored[1:], beta=0.1, weights=torch.ones(1))
    print(f"π(b) = {p}: loss {loss.item():.4f}" + (" = ln 2, policy and reference agree" if p == 0.2 else ""))

# %% [markdown]
# ## The run
#
# One unit trains and evaluates *all* variants on the same tasks from the same base model. It is computed once: opened
# again it is read from the run store, and after a kill it goes on where it was.

# %%
own, artifacts, events = [], Path("none"), Path("none")
if unit:
    artifacts, events = unit.run.artifacts, unit.run.path / "events.jsonl"
    with show.progress(unit.run):
        own = importlib.import_module(f"papers.{paper}.method").run(unit)

# %% [markdown]
# ## Results, against the paper's
#
# The paper's numbers come from 7 B and 70 B models on other environments: compare directions, never sizes.

# %%
others, where = stories.published(root, paper, env, profile)
rows = stories.together(own, [] if overrides else others)
groups = stories.claim_groups(root / "papers" / paper / "claims.yaml")
ladder = next(iter(groups.values()))  # bottom to top
show.say("**In the paper**", stories.section(root / "papers" / paper / "README.md", "What the paper reports"),
         f"**Here.** {where} " + (f"This unit (seed {seed}) joins them." if own and not overrides else ""),
         tables.summary_table(rows, ladder, ("success", "score", "length")))
known = {}
if unit:
    panel = load_panel(unit.data, f"{env}/{unit.params.panels[0]}")
    known["lazy agent"] = stories.lazy_success(make(env, unit.data), panel)
show.show(figures.ladder(rows, stories.present(rows, ladder), references=known))

# %% [markdown]
# The lines are 95 % t-intervals over training seeds; with one seed there is none, and no claim can be judged. Next: what
# search at test time adds to *each* policy on the same tasks, beside best-of-n by the same critic, and what it all cost.

# %%
show.show(figures.ladder(rows, stories.acting(rows, ladder), metric="planned_success"))
show.show(figures.budget(rows, stories.present(rows, ladder)))

# %% [markdown]
# ## A search tree
#
# Of the trees the run kept, the one whose first actions differ most in value. Colour is Q, size the number of visits,
# hollow nodes were proposed but never tried, squares are finished episodes; the bold path is the most visited. Whole
# trees, to be unfolded, lie beside it as HTML.

# %%
trees = stories.trees(artifacts)
NO_RUN = "No run of this unit is in this machine's store, so there is nothing to look at: `make repro` runs it."
if trees:
    show.show(draw.draw_tree(stories.telling(trees), max_nodes=24))
print(f"{len(trees)} trees in {artifacts}" if trees else NO_RUN)

# %% [markdown]
# ## Are the pairs right?
#
# The environment has an exact solver, so each pair can be checked: is the chosen action worth more, in exact $Q^*$?
# The threshold θ trades the number of pairs for their accuracy. Below: α, the weight of search against critique, at a
# small and a large search budget (policies after one round, pairs of that round).

# %%
show.show(figures.audit(rows, "agent_q@theta="))
alphas = {"small budget": {0.0: "agent_q_alpha0", 0.5: "agent_q_r1", 1.0: "agent_q_alpha1"},
          "large budget": {0.0: "agent_q_alpha0_big", 0.5: "agent_q_big", 1.0: "agent_q_alpha1_big"}}
show.show(figures.ablation(rows, alphas, xlabel="α: weight of the search value against the critique"))
show.show(figures.ablation(rows, alphas, xlabel="α", metric="pair_accuracy"))

# %% [markdown]
# ## Three episodes read closely
#
# The same tasks before training (base) and after (the trained policy, without search): one that was learned, one that
# was lost, one that stays unsolved, as far as the kept episodes have them. $Q^*$ is what the action taken is worth, $V^*$
# the best there was.

# %%
before, after = (stories.episodes(artifacts, variant) for variant in ("base", "agent_q"))
if not before:
    show.say(NO_RUN)
else:
    world = make(env, unit.data)
    tasks = {task.id: task for task in panel}
    for what, task in stories.contrasts(before, after)[:3]:
        show.say(f"### {what}: `{task}`", "Base:", stories.trace(world, tasks[task], before[task]),
                 "Agent Q:", stories.trace(world, tasks[task], after[task]))

# %% [markdown]
# ## Learning, and what goes wrong
#
# DPO starts at ln 2 = 0.693 when the stored log-probabilities belong to the policy in training. Watch the log-ratios:
# if the chosen side falls along with the rejected one, probability leaves both for actions nobody sampled.
#
# Below the curves: pairs that the search is sure of and that exact values contradict. Ask of each: too few simulations,
# a lucky rollout, or the critic?

# %%
points = [p for p in stories.training_points(events) if p["variant"] in ("agent_q", "traj_dpo")]
if points:
    show.show(figures.curves(points, ("loss", "reward_margin", "logratio_chosen", "logratio_rejected")))
if trees:
    train = load_panel(unit.data, f"{env}/train")
    show.say(stories.wrong_pairs(trees, make(env, unit.data), train, theta=unit.params.learn.theta))
if not unit:
    show.say(NO_RUN)

# %% [markdown]
# ## Exercises
#
# 1. Set `overrides = {"search.alpha": 1.0}`. Which pairs disappear, and does the accuracy rise or fall? Why does α = 1
#    still profit from the critique (see `mix_q`)?
# 2. In the toy above, how large must *c* be before *a* is looked at next instead of *b*? Derive it, then try it.
# 3. `{"learn.theta": 0.6}` keeps the surest pairs only. Compare with `{"learn.theta": 0.0}` at equal updates
#    (`learn.dpo_epochs`). Is accuracy or number worth more?
# 4. Double `search.env_steps` and halve `collect.tasks`: same budget, fewer and better trees. What do you expect?
# 5. Write a null test: shuffle chosen and rejected at random. What must the ladder show?

# %%
if unit:
    print(f"{len(own)} metric rows: {unit.run.path.relative_to(root) / 'rows.jsonl'}")
    print(f"executed by the sweep: results/{paper}/metrics.jsonl")
else:
    print(f"nothing was written; published rows: results/{paper}/metrics.jsonl")
