# %% [markdown]
# # Multi-agent training: can agents that are trained together become better ones?
#
# Three papers ask it, and this notebook serves them all (parameter `paper`):
#
# - `malt` ([MALT](https://arxiv.org/abs/2412.01928)): a generator answers, a verifier criticises, a refiner answers
#   again. Nobody labels critiques; sampling every role several times and passing the final outcome back as a mean tells
#   which utterances helped. A team trained on that beats the untrained team, which beats a single agent.
# - `cory` ([CORY](https://arxiv.org/abs/2410.06101)): two copies of a policy, a pioneer who answers and an observer who
#   reads that and answers too, share one reward and exchange roles. For equal reward each ends nearer to the base model
#   than single-agent reinforcement learning does.
# - `social_deduction` ([Training Language Models for Social Deduction](https://arxiv.org/abs/2502.06060)): a crew talks
#   about who the impostor among them is. Trained to predict that from the discussion (listening), and paid for messages
#   that change what the others believe (speaking), it wins twice as often as by reinforcement learning on the win.
#
# **What you will see**: the equations beside the functions that implement them, worked out by hand; all variants of
# the paper at matched budgets; what each agent learned; dialogues before and after.
#
# **How long it takes**: nothing if this unit was run before (`make repro` runs seeds 0–4), otherwise two to ten
# minutes on one CPU core at the profile `cpu`, seconds at `smoke`. Nothing here needs a GPU.

# %% tags=["parameters"]
paper: str = "malt"  # malt, cory or social_deduction
# malt: countdown-roles-v1, or gsm8k-v1 (with smol); cory: countdown-answer-v1 or arithmetic-v1; social_deduction: deduction-v1
env: str = "countdown-roles-v1"
seed: int = 0  # training seed; 0-4 are those of the published tables
profile: str = "cpu"  # smoke (seconds), cpu (minutes), or for malt smol: SmolLM2-135M, an hour
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

import torch

from common.envs.deduction import belief
from common.evaluate import frontier
from common.learn import influence, losses
from common.learn import policy_gradient as pg
from common.report import dialogue, discussion, figures, show, stories, tables
from common.report import frontier as plane
from common.search import expansion as tree

root = project_root()
roles = ("generator", "verifier", "refiner")

# %% [markdown]
# ## MALT: credit from a tree of outcomes
#
# For each training question the generator is sampled $n=3$ times, the verifier three times on each answer $g$, the
# refiner three times on each critique $v$: 27 final answers. Only they can be checked, $r\in\{0,1\}$. Credit goes up
# as a mean,
#
# $$V(g,v,r)=r,\qquad V(g,v)=\frac1n\sum_{r}V(g,v,r),\qquad V(g)=\frac1n\sum_{v}V(g,v)$$
#
# and an utterance is *positive* when $V>\tfrac12$. A critique is good when refiners do well after it, whatever it says.
# Every role is fine-tuned on its positive utterances. Then verifier and refiner learn from *siblings*, utterances after
# the same prompt of which one is positive ($w$) and one is not ($l$), by DPO against the fine-tuned policy itself:
#
# $$L=-\log\sigma\Big(\beta\Big[\log\frac{\pi(w|x)}{\pi_{sft}(w|x)}-\log\frac{\pi(l|x)}{\pi_{sft}(l|x)}\Big]\Big)$$
#
# The generator is spared: in the paper preference training made it worse.

# %%
show.say(*map(stories.source, (tree.values, tree.first_outcomes, tree.sibling_pairs, losses.dpo_losses)))

# %% [markdown]
# By hand: one generation, three critiques, nine final answers. Three ways to label an utterance from outcomes: its
# value above a half (MALT); the outcome of the one trajectory that was followed; whether *any* trajectory through it
# ended right (what imitating all successful trajectories amounts to).

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
# ## CORY: one reward for two, and the price of distance
#
# The pioneer answers the question, $a_1\sim\pi_p(\cdot|s)$; the observer sees both, $a_2\sim\pi_o(\cdot|s,a_1)$. Each
# maximises, by its own policy gradient and with weights of its own,
#
# $$\mathbb E\big[r(a_1)+r(a_2)\big]-\eta\,\mathrm{KL}(\pi\,\|\,\pi_0)$$
#
# beyond a baseline of what it knows, and every $T$ updates the two exchange roles. In the end one of them answers
# alone. Any reward can be bought with distance from $\pi_0$, so methods are compared by their *frontier* $F(k)$, the
# reward to be had for $k$ nats: train at several $\eta$, add the base itself (0 nats), and connect. Straight lines are
# honest: a coin tossed before each answer mixes two policies, its reward lies on the line, and its KL, being convex, on
# or below. By hand: four dialogues of one question, then two methods. Which needs less KL for the same reward?

# %%
show.say(*map(stories.source, (pg.leave_one_out, frontier.frontier, frontier.compare)))
told = torch.tensor([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])  # r(a1), r(a2)
first, second = (pg.leave_one_out(told[:, k:].sum(1)[None])[0].tolist() for k in (0, 1))
for both, one, two in zip(told.tolist(), first, second):
    print(f"r(a₁) = {both[0]:.0f}, r(a₂) = {both[1]:.0f}: both get {sum(both):.0f}; advantage of the pioneer "
          f"{one:+.2f}, of the observer, who knew r(a₁), {two:+.2f}")
near, far = [frontier.Point(0.5, 0.3), frontier.Point(2, 0.5)], [frontier.Point(1, 0.3), frontier.Point(3, 0.5)]
for name, found in frontier.compare({"near": near, "far": far}, 0.2).items():
    print(f"{name:4s}: mean reward at equal KL {found['frontier_reward']:.3f}, mean KL at equal reward "
          f"{found['frontier_kl']:.2f} nats")

# %% [markdown]
# ## Social deduction: who listens, and what is worth saying
#
# Each of four crew members saw two players near the body, the impostor and a passer-by, and cannot tell which is which.
# All their sightings together have only the impostor in common, but a message has room for one name (`pink`) or none
# (`nobody`). Everybody speaks once, then the crew vote. The win comes too late to tell which message was good,
# so two terms join its policy gradient. Let $\pi_j(x\mid h)$ be the probability that crew member $j$,
# who saw and heard $h$, gives to $x$ being the impostor, and $x^*$ the true one. The *listening* loss is
# $-\lambda_L\log\pi_j(x^*\mid h)$; a message $m$ of crew member $i$ earns a *speaking* reward by the others' beliefs,
#
# $$\lambda_S\,\frac13\sum_{j\ne i}\big[\pi_j(x^*\mid h_j,m)-\pi_j(x^*\mid h_j)\big]$$
#
# By hand: what an ideal listener makes of messages (it trusts a crew member in nine of ten messages, and an impostor in
# none), then what two messages earn by the beliefs of three listeners, the first of whom speaks first, then the second.

# %%
show.say(*map(stories.source, (belief.ideal, influence.speaking_rewards)))
heard = [("green", "pink"), ("white", "blue"), ("blue", "pink")]
for k in range(4):
    thinks = belief.ideal("red", ("blue", "pink"), heard[:k])
    print(f"{' names '.join(heard[k - 1]) if k else 'red saw blue and pink':22s}"
          + "   ".join(f"{who} {p:.2f}" for who, p in thinks.items() if p))
told = torch.tensor([[0.2, 0.3, 0.6], [0.4, 0.1, 0.5], [0.1, 0.7, 0.7]])
print("the two messages earn", [round(value, 2) for value in influence.speaking_rewards(told, [0, 1]).tolist()])

# %% [markdown]
# ## The run
#
# One unit trains and evaluates *all* variants of the paper from the same base model (`malt`: one model plays all roles,
# each role then gets weights of its own, and all learn from the same tree; `social_deduction`: the crew share weights,
# the impostor keeps the base's). It is computed once: opened again it is read from the run store, after a kill it goes
# on where it was.

# %%
own, artifacts, events = [], Path("none"), Path("none")
if unit:
    artifacts, events = unit.run.artifacts, unit.run.path / "events.jsonl"
    with show.progress(unit.run):
        own = importlib.import_module(f"papers.{paper}.method").run(unit)
NO_RUN = "No run of this unit is in this machine's store, so there is nothing to look at: `make repro` runs it."
others, where = stories.published(root, paper, env, profile)
rows = stories.together(own, [] if overrides else others)
test = [row for row in rows if row.panel == f"{env}/test"]

# %% [markdown]
# ## MALT's tree of one question, and how good its credit is
#
# Follow one answer to the right: what was said of it, what the refiners made of that, and the value that came back. A
# pair for DPO is a filled and a hollow mark under one parent. Look for a critique that is *false* and positive, or true
# and negative: credit knows outcomes, not truth. The environment knows which answers are right and which verdicts are
# true; no label was told. `label_…`: share of labels that agree with the truth. `pair_true`: of the verifier's pairs
# whose verdicts differ in truth, the share that prefer the true one; `pair_alike`: the share in which both are equally
# true, noise for DPO.

# %%
kept = dialogue.expansions(artifacts)
if kept:
    show.show(dialogue.tree(dialogue.telling(kept), roles))
credited = stories.present(rows, ("star_trio", "malt_outcome", "malt"))
audit = ("label_generator", "label_verifier", "pair_true", "pair_alike", "pairs_verifier", "pairs_refiner")
if paper == "malt":
    show.say(tables.summary_table([row for row in rows if row.panel == f"{env}/train"], credited, audit),
             "" if kept else NO_RUN)
else:
    show.say(f"`{paper}` samples no trees.")

# %% [markdown]
# ## Results, against the paper's
#
# The paper's numbers come from models ten thousand times as large: compare directions, never sizes. `malt`: the figure
# elects one of equally many final answers (`+vote`), the table shows what that costs, a trio's answer takes several
# times the tokens of a single agent's; `+vote_tok` lets the single agent vote until it has spent as much. `cory`: one
# agent alone, answering once. `excess` is its reward beyond single-agent RL's frontier at its own KL.
# `social_deduction`: share of games won. `silent` and `honest` are yardsticks: ideal listeners who hear nothing, and
# who hear every crew member name one of the two it saw.

# %%
names = ("base", "trio", "rft", "star_trio", "malt_sft", "malt_sft_long", "malt_outcome", "malt")
single, pairs = (sorted({r.variant for r in test if r.variant.split("@")[0] == name}) for name in ("single", "cory"))
ablations = stories.present(test, ("cory_reset", "cory_no_exchange", "cory_blind"))
voted = stories.present(test, [f"{name}{how}" for name in names for how in ("+vote", "+vote_tok")])
crews = stories.present(test, ("base", "rl", "listen", "rl_listen", "rl_listen_speak", "rl_listen_speak_wm"))
rungs = {"malt": voted, "cory": stories.present(test, ("base", *single, *pairs, *ablations)),
         "social_deduction": stories.present(test, ("silent", *crews, "honest"))}[paper]
columns = {"malt": ("success", "greedy_success", "delta", "copy"), "cory": ("success", "kl", "excess"),
           "social_deduction": ("success", "greedy_success", "vote_acc", "ideal_success", "gain")}[paper]
show.say("**In the paper**", stories.section(root / "papers" / paper / "README.md", "What the paper reports"),
         f"**Here.** {where} " + (f"This unit (seed {seed}) joins them." if own and not overrides else ""))
show.show(figures.ladder(test, rungs))
show.say(tables.cost_table(test, rungs), "One answer, or one chain, each; `greedy_success` decodes greedily:",
         tables.summary_table(test, stories.present(test, names) if paper == "malt" else rungs, columns))

# %% [markdown]
# ## CORY: reward against distance
#
# Each mark is a trained policy: left is nearer to the base, up is better. A line is all that mixing can make of a
# method's marks. The paper's claim is that CORY's line lies to the left of single-agent RL's; its ablations are single
# marks, to be read against both lines. One and the same $\eta$ pulls a summed reward half as hard, so marks of equal
# $\eta$ do not compare; lines do.

# %%
if paper == "cory":
    show.show(plane.against_kl(test, {"single": single, "cory": pairs}, ablations))
    show.say(tables.summary_table(test, ("single_frontier", "cory_frontier"), ("frontier_kl", "frontier_reward")))
else:
    show.say(f"`{paper}` draws no frontiers.")

# %% [markdown]
# ## What each role learned
#
# `malt`: final success mixes three roles. Does the generator answer better, does the verifier see more mistakes (or
# does it say "right" to all), does the refiner keep right answers and repair wrong ones? `malt_base_…` gives one role
# back to the base. `cory`: `observer_…` is the agent that ended as observer, asked the question alone; `acc@2` is what
# it answers after the pioneer, keeping right answers (`cl`), repairing wrong ones (`cs`) or copying.
# `social_deduction`: does the crew believe the truth more after every message (listening), and are its messages such
# that an *ideal* listener would win (speaking)? Where the two differ, what was said was not understood.

# %%
trios = ("trio", "star_trio", "malt_sft", "malt_outcome", "malt", "malt_base_g", "malt_base_v", "malt_base_r")
seconds = ("success", "observer_success", "kl", "observer_kl", "acc@2", "cl", "cs", "copy")
if paper == "malt":
    show.show(dialogue.roles(test, stories.present(test, trios)))
elif paper == "social_deduction":
    show.show(discussion.beliefs(test, crews))
    show.show(discussion.speech(test, crews))
else:
    show.say(tables.summary_table(test, stories.present(test, ("base", *pairs, *ablations)), seconds))

# %% [markdown]
# ## Three dialogues read closely, and curves
#
# Who said what, ✓ right and ✗ wrong (of a critique: whether its verdict is true), before and after training; all
# variants meet the same random numbers. Then curves. `malt`: `logratio_chosen` falling together with
# `logratio_rejected` means that DPO moves probability away from both. `cory`: `kl_1` is that of whoever is pioneer
# (`kl_2`: observer); saw teeth are exchanges, since an agent's distance on the two prompts differs.
# `social_deduction`: what each crew member believed of the true impostor after each message; `change` is the mean over
# the others, what the speaking reward pays. Curves: games won, belief after the discussion, share of true messages.

# %%
chosen = {"malt": ("trio", "malt_sft", "malt"), "cory": ("base", "cory_no_exchange", "cory"),
          "social_deduction": ("base", "rl_listen", "rl_listen_speak")}[paper]
told, room = {name: dialogue.dialogues(artifacts, name) for name in chosen}, {"social_deduction": discussion}
for kind, task in room.get(paper, dialogue).contrasts(told[chosen[0]], told[chosen[-1]]):
    show.say(f"**{kind}**")
    dialogue.present(room.get(paper, dialogue).viewer(told, task))
drawn = {"malt": ("loss", "reward_accuracy", "logratio_chosen", "logratio_rejected"),
         "cory": ("acc_1", "acc_2", "kl_1", "kl_2"), "social_deduction": ("reward", "belief", "truthful")}[paper]
trained = {"malt": ("value.verifier.dpo", "value.refiner.dpo"), "cory": ("single", "cory", *ablations),
           "social_deduction": crews}[paper]
points = [p for p in stories.training_points(events) if p["variant"] in trained]
if points:
    show.show(figures.curves(points, drawn))
else:
    show.say(NO_RUN)

# %% [markdown]
# ## Exercises
#
# 1. MALT's toy: change one reward so that its rule and the single outcome agree on every critique. How many of the
#    $2^9$ tables of rewards do so?
# 2. `malt`, `{"threshold": 0.0}`: `malt_sft` imitates what `star_trio` imitates. Which numbers agree exactly?
# 3. A refiner that ignores the critique gives every critique of an answer the same expected value. What do the
#    verifier's pairs then teach? Find `pair_alike` of such a refiner.
# 4. Why does a verifier that always says "right" earn a high value on easy questions? Which of the six figures of roles
#    would show it?
# 5. CORY's toy: the observer's reward contains $r(a_1)$, which was fixed before it answered. Show that its expected
#    gradient is zero, so that it may be taken out. Why may it not be taken out of the pioneer's?
# 6. `cory`, `{"rl.exchange_every": 1000}`: which variants must get the same numbers as `cory`, to the last bit?
# 7. An observer that copies earns $2\,r(a_1)$ for both. What does the pioneer then learn that single-agent RL does not?
# 8. Social deduction: why does an ideal listener suspect whoever says nothing? You saw red and blue, and red was named
#    twice before you speak. What should you say, and what would the ideal listener of the demonstrators make of it?
# 9. `social_deduction`, `{"rl.speaking": 0.0}`: which two variants must get the same numbers, to the last bit?
# 10. A speaking reward by the others' own beliefs pays for what *persuades*. When does it pay more for a false message
#     than for a true one? Find such a message in the games above.
# 11. Write the null test of any of the papers: shuffle the rewards among questions. What must the ladder show?

# %%
if unit:
    print(f"{len(own)} metric rows: {unit.run.path.relative_to(root) / 'rows.jsonl'}")
    print(f"executed by the sweep: results/{paper}/metrics.jsonl")
else:
    print(f"nothing was written; published rows: results/{paper}/metrics.jsonl")
