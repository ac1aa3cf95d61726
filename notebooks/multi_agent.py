# %% [markdown]
# # Multi-agent training: can three roles be trained from one tree of outcomes?
#
# **The claim** (MALT, [arXiv 2412.01928](https://arxiv.org/abs/2412.01928)): a generator answers, a verifier
# criticises, a refiner answers again. Nobody labels critiques. Sampling every role several times and passing the final
# outcome back as a mean tells which utterances helped; training each role on that makes a team that beats the
# untrained team, which beats a single agent.
#
# **What you will see**: the equations beside the functions that implement them; credit worked out by hand, where
# three rules disagree; the tree of one question with the value of every utterance; the ladder with votes matched, and
# again with *tokens* matched; what each role learned; dialogues before and after.
#
# **How long it takes**: nothing if this unit was run before (`make repro` runs seeds 0–4), otherwise about four
# minutes on one CPU core at the profile `cpu`, seconds at `smoke`. Nothing here needs a GPU.

# %% tags=["parameters"]
paper: str = "malt"  # folder below papers/
env: str = "countdown-roles-v1"  # three turns by three roles, see common/envs/versions/
seed: int = 0  # training seed; 0-4 are those of the published tables
profile: str = "cpu"  # smoke (seconds) or cpu (minutes)
overrides: dict = {}  # changed parameters by dotted name, for example {"threshold": 0.3}

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

from common.learn.losses import dpo_losses
from common.search import expansion as tree

# By name: a changed plot is no change of a result, so finished units stay finished.
report = ("figures", "stories", "tables", "show", "dialogue")
figures, stories, tables, show, dialogue = (importlib.import_module(f"common.report.{name}") for name in report)
root = project_root()
roles = ("generator", "verifier", "refiner")

# %% [markdown]
# ## The idea
#
# For each training question the generator is sampled $n=3$ times, the verifier three times on each answer $g$, the
# refiner three times on each critique $v$: 27 final answers. Only they can be checked, $r\in\{0,1\}$. Credit goes up
# as a mean,
#
# $$V(g,v,r)=r,\qquad V(g,v)=\frac1n\sum_{r}V(g,v,r),\qquad V(g)=\frac1n\sum_{v}V(g,v)$$
#
# and an utterance is *positive* when $V>\tfrac12$. A critique is good when refiners do well after it, whatever it says.

# %%
show.say(*map(stories.source, (tree.values, tree.first_outcomes)))

# %% [markdown]
# Every role is fine-tuned on its positive utterances. Then verifier and refiner learn from *siblings*, utterances after
# the same prompt of which one is positive ($w$) and one is not ($l$), by DPO against the fine-tuned policy itself:
#
# $$L=-\log\sigma\Big(\beta\Big[\log\frac{\pi(w|x)}{\pi_{sft}(w|x)}-\log\frac{\pi(l|x)}{\pi_{sft}(l|x)}\Big]\Big)$$
#
# The generator is spared: in the paper preference training made it worse.

# %%
show.say(*map(stories.source, (tree.sibling_pairs, dpo_losses)))

# %% [markdown]
# ## By hand
#
# One generation, three critiques, nine final answers. Three ways to label an utterance from outcomes: its value above
# a half (MALT); the outcome of the one trajectory that was followed; whether *any* trajectory through it ended right
# (what imitating all successful trajectories amounts to).

# %%
toy = dialogue.toy([[1, 1, 0], [1, 0, 0], [0, 0, 1]])  # rewards of the refinements, a row for each critique
for branch, value, first in zip(toy.branches, tree.values(toy), tree.first_outcomes(toy)):
    if branch.depth < 2:
        says = {"value": value > 0.5, "one outcome": first == 1, "any": value > 0}
        print(f"{'   ' * branch.depth}{branch.turn.text:11s} V = {value:.2f}   "
              + "   ".join(f"{name}: {'+' if good else '-'}" for name, good in says.items()))
pairs = [(pair.chosen, pair.rejected) for pair in tree.sibling_pairs(toy, [v > 0.5 for v in tree.values(toy)], depth=1)]
print("verifier's pairs by value:", pairs)
print("Critique 1 was lucky once: one outcome calls it good. The generation is right in 4 of 9, so V says no.")

# %% [markdown]
# ## The run
#
# One base model plays all roles; each role then gets weights of its own. All variants start from that base and learn
# from the same tree (the single agent from as many sampled tokens). It is computed once: opened again it is read from
# the run store, after a kill it goes on where it was.

# %%
own, artifacts, events = [], Path("none"), Path("none")
if unit:
    artifacts, events = unit.run.artifacts, unit.run.path / "events.jsonl"
    with show.progress(unit.run):
        own = importlib.import_module(f"papers.{paper}.method").run(unit)
NO_RUN = "No run of this unit is in this machine's store, so there is nothing to look at: `make repro` runs it."

# %% [markdown]
# ## The tree of one question
#
# Follow one answer to the right: what was said of it, what the refiners made of that, and the value that came back. A
# pair for DPO is a filled and a hollow mark under one parent. Look for a critique that is *false* and positive, or true
# and negative: credit knows outcomes, not truth.

# %%
kept = dialogue.expansions(artifacts)
if kept:
    show.show(dialogue.tree(dialogue.telling(kept), roles))
else:
    show.say(NO_RUN)

# %% [markdown]
# How good is that credit? The environment knows which answers are right and which verdicts are true; no label was told.
# `label_…`: share of labels that agree with the truth. `pair_true`: of the verifier's pairs whose verdicts differ in
# truth, the share that prefer the true one; `pair_alike`: the share in which both are equally true, noise for DPO.

# %%
others, where = stories.published(root, paper, env, profile)
rows = stories.together(own, [] if overrides else others)
credited = stories.present(rows, ("star_trio", "malt_outcome", "malt"))
audit = ("label_generator", "label_verifier", "pair_true", "pair_alike", "pairs_verifier", "pairs_refiner")
show.say(tables.summary_table([row for row in rows if row.panel == f"{env}/train"], credited, audit))

# %% [markdown]
# ## Results, against the paper's
#
# The paper's numbers come from Llama-3.1-8B: compare directions, never sizes. The upper figure elects one of equally
# many final answers (`+vote`), the first table shows what that costs: a trio's answer takes several times the tokens of
# a single agent's. `+vote_tok` lets the single agent vote until it has spent as much.

# %%
test = [row for row in rows if row.panel == f"{env}/test"]
names = ("base", "trio", "rft", "star_trio", "malt_sft", "malt_sft_long", "malt_outcome", "malt")
voted = stories.present(test, [f"{name}{how}" for name in names for how in ("+vote", "+vote_tok")])
show.say("**In the paper**", stories.section(root / "papers" / paper / "README.md", "What the paper reports"),
         f"**Here.** {where} " + (f"This unit (seed {seed}) joins them." if own and not overrides else ""))
show.show(figures.ladder(test, voted))
show.say(tables.cost_table(test, voted), "Without votes, one chain each; `greedy_success` decodes greedily:",
         tables.summary_table(test, stories.present(test, names), ("success", "greedy_success", "delta", "copy")))

# %% [markdown]
# ## What each role learned
#
# Final success mixes three roles. Does the generator answer better, does the verifier see more mistakes (or does it say
# "right" to all), does the refiner keep right answers and repair wrong ones? `malt_base_…` gives one role back to the
# base.

# %%
trios = ("trio", "star_trio", "malt_sft", "malt_outcome", "malt", "malt_base_g", "malt_base_v", "malt_base_r")
show.show(dialogue.roles(test, stories.present(test, trios)))

# %% [markdown]
# ## Three dialogues read closely
#
# Who said what, ✓ right and ✗ wrong (of a critique: whether its verdict is true), before and after training; all
# variants meet the same random numbers. Then curves: `logratio_chosen` falling together with `logratio_rejected` means
# that DPO moves probability away from both.

# %%
told = {name: dialogue.dialogues(artifacts, name) for name in ("trio", "malt_sft", "malt")}
for kind, task in dialogue.contrasts(told["trio"], told["malt"]):
    show.say(f"**{kind}**")
    dialogue.present(dialogue.viewer(told, task))
points = [p for p in stories.training_points(events) if p["variant"] in ("value.verifier.dpo", "value.refiner.dpo")]
if points:
    show.show(figures.curves(points, ("loss", "reward_accuracy", "logratio_chosen", "logratio_rejected")))
else:
    show.say(NO_RUN)

# %% [markdown]
# ## Exercises
#
# 1. By hand: change one reward so that MALT's rule and the single outcome agree on every critique. How many of the
#    $2^9$ tables of rewards do so?
# 2. `overrides = {"threshold": 0.0}` makes `malt_sft` imitate what `star_trio` imitates. Which numbers agree exactly?
# 3. A refiner that ignores the critique gives every critique of an answer the same expected value. What do the
#    verifier's pairs then teach? Find `pair_alike` of such a refiner.
# 4. Why does a verifier that always says "right" earn a high value on easy questions? Which of the six figures above
#    would show it?
# 5. Give the single agent's vote the verifier: elect among answers it calls right. Is the refiner still needed?
# 6. Write the null test: shuffle the rewards of the leaves among questions. What must every row of the ladder show?

# %%
if unit:
    print(f"{len(own)} metric rows: {unit.run.path / 'rows.jsonl'}")
    print(f"executed by the sweep: results/{paper}/metrics.jsonl")
else:
    print(f"nothing was written; published rows: results/{paper}/metrics.jsonl")
