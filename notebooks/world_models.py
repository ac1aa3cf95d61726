# %% [markdown]
# # World models: does it help to act to have seen what actions lead to?
#
# **The claim** (Early Experience, [arXiv 2510.08558](https://arxiv.org/abs/2510.08558)): an agent that tries other
# actions than its expert's, and learns what they lead to, acts better than one that only imitates the expert, for
# equally many updates and without any reward; the more so the fewer the demonstrations; and it is the better start for
# reinforcement learning.
#
# **What you will see**: the losses beside the functions that build their rows; one state, its alternatives and a
# reflection worked out by hand; all variants from one start; imagined pages beside real ones; how foresight
# fades with depth; three episodes read closely; training curves.
#
# **How long it takes**: nothing if this unit was run before (`make repro` runs seeds 0–4), otherwise about six
# minutes on one CPU core at the profile `cpu`, seconds at `smoke`. Nothing here needs a GPU.

# %% tags=["parameters"]
paper: str = "early_experience"  # folder below papers/
env: str = "shop-v1"  # the shop
seed: int = 0  # training seed; 0-4 are those of the published tables
profile: str = "cpu"  # smoke (seconds) or cpu (minutes)
overrides: dict = {}  # changed parameters by dotted name, for example {"experience.k": 1}

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

from IPython.display import HTML, display

from common.envs import load_panel, make
from common.envs.answers import declared
from common.envs.shop import reading
from common.search import experience

# By name: a changed plot is no change of a result, so finished units stay finished.
report = ("figures", "stories", "tables", "show", "imagined")
figures, stories, tables, show, imagined = (importlib.import_module(f"common.report.{name}") for name in report)
method = importlib.import_module(f"papers.{paper}.method")
root = project_root()

# %% [markdown]
# ## The idea
#
# A demonstration is a row of states and actions $(s_i, a_i)$. At each $s_i$ the policy proposes up to $K$ other actions
# $a_i^j$, each is executed from a snapshot, and the state $s_i^j$ that it leads to is kept. Nobody says whether that
# was good. Three ways to learn from this, for the same number of updates:
#
# $$L_{imitation}=-\sum_i\log p(a_i|s_i)\qquad L_{IWM}=-\sum_{i,j}\log p(s_i^j\,|\,s_i,a_i^j)\qquad
# L_{SR}=-\sum_{i,j}\log p(c_i^j,a_i\,|\,s_i)$$
#
# *Implicit world modelling* (IWM) first learns what actions lead to, then imitates. *Self-reflection* (SR) puts a
# sentence $c_i^j$ before the expert's action that sets the outcome of another action against that of the expert's,
# mixed with plain demonstrations. The world model is the policy itself: nothing is searched when it acts.

# %%
show.say(*map(stories.source, (experience.try_others, method.imitation_rows, method.world_rows)))

# %% [markdown]
# ## By hand
#
# A nano policy writes no free text, so a reflection has one form. What an outcome *means* is read off the page as a
# player would read it: what does the product lack of what the goal names?

# %%
show.say(stories.source(reading.outcome))
goal = "portable safe stroller with color: white, and price lower than 70 dollars"
prompt = f"goal: {goal}\ndid: search\npage 1\n1 nidoo portable safe stroller $33\n2 cribba safe natural stroller $32"
good = "nidoo portable safe stroller $33\nabout: safe portable\ncolor: green white\nchosen: none\nbuy now, < prev"
poor = "cribba safe natural stroller $32\nabout: safe natural\ncolor: blue white\nchosen: none\nbuy now, < prev"
tried = tuple(experience.Tried(a, page) for a, page in (("click[2]", poor), ("click[white]", "invalid action\n…")))
moment = experience.Moment("toy", ({"role": "user", "content": prompt},), experience.Tried("click[1]", good), tried)
print("imitation  ", [row.completion for row in method.imitation_rows([moment])])
asked = method.world_rows([moment], 2)
print("world model", [(row.prompt[1]["content"], row.completion.split("\n")[0]) for row in asked])
for name, invent in (("sr", lambda real: real), ("star", lambda real: real[::-1])):
    print(name.ljust(11), [row.completion for row in method.reflection_rows([moment], 2, invent=invent)])

# %% [markdown]
# Look at the last line: the STaR-style control has the same sentences and the same actions, but what the other action
# led to was taken from another one. If grounding matters, `star` must fall behind `sr`.
#
# ## The run
#
# One unit trains and evaluates *all* variants from the same start, which plays the pretrained model's part: it can act
# a little, but has never written a page. (`overrides = {"start.updates": 300}` teaches it to write pages first, at some
# cost of its acting.) A unit is computed once: opened again it is read from the run store, after a kill it goes on.

# %%
own, artifacts, events = [], Path("none"), Path("none")
if unit:
    artifacts, events = unit.run.artifacts, unit.run.path / "events.jsonl"
    with show.progress(unit.run):
        own = method.run(unit)

# %% [markdown]
# ## Results, against the paper's
#
# The paper's numbers come from models of 3 B to 8 B parameters on the real WebShop: compare directions, never sizes.

# %%
others, where = stories.published(root, paper, env, profile)
rows = stories.together(own, [] if overrides else others)
order = ("start", "iwm_world", "star", "imitation", "iwm", "sr", "imitation_eighth", "iwm_eighth", "sr_eighth",
         "imitation_rl", "iwm_rl", "sr_rl")
ladder = stories.present(rows, order)
show.say("**In the paper**", stories.section(root / "papers" / paper / "README.md", "What the paper reports"),
         f"**Here.** {where} " + (f"This unit (seed {seed}) joins them." if own and not overrides else ""),
         tables.summary_table(rows, ladder, ("success", "score", "invalid", "repeated", "truncated", "reflected")))
known = {}
if unit:
    panel = load_panel(unit.data, f"{env}/{unit.params.panels[0]}")
    known["lazy agent"] = stories.lazy_success(make(env, unit.data), panel)
show.show(figures.ladder(rows, ladder, references=known))

# %% [markdown]
# The lines are 95 % t-intervals over training seeds; with one seed there is none, and no claim can be judged.
# `iwm_world` is `iwm` before it imitates: how much acting was forgotten while pages were learned.
#
# Equal updates are not equal costs. What each variant executed, sampled and learned from:

# %%
show.say(tables.cost_table(rows, ladder))

# %% [markdown]
# ## Fewer demonstrations
#
# Success against the share of demonstrated tasks. The paper expects the lines to be further apart on the left.

# %%
series = {kind: {0.125: f"{kind}_eighth", 1.0: kind} for kind in ("imitation", "iwm", "sr")}
show.show(figures.ablation(rows, series, xlabel="share of the demonstrated tasks"))

# %% [markdown]
# ## Imagined and real, step by step
#
# The policy is asked what follows an action, then what follows the next one *in the state it imagined*. Underlined:
# real but not imagined; struck out: imagined but not real. Ask of each error whether it could have been known: a
# product's attributes beyond its title are nowhere on the page before.

# %%
NO_RUN = "No run of this unit is in this machine's store, so there is nothing to look at: `make repro` runs it."
for name in ("iwm_world", "iwm"):
    found = imagined.walks(artifacts, name)
    show.say(f"**`{name}`**" if found else NO_RUN)
    display(HTML(imagined.viewer(imagined.differing(found, most=2))))

# %% [markdown]
# How foresight fades with depth, and how much of it imitation and RL leave. `start` and `imitation` were never asked
# this question: they are what no training gives.

# %%
foresight = ("start", "imitation", "iwm_world", "iwm", "iwm_rl")
show.show(imagined.depths(rows, stories.present(rows, foresight)))

# %% [markdown]
# ## Three episodes read closely
#
# The same tasks by imitation and by self-reflection: one that was learned, one that was lost, one that stays
# unsolved, as far as the kept episodes have them. $Q^*$ is what the action taken is worth, $V^*$ the best there was.
# Below each, what the policy wrote before it acted: did it foresee rightly, and did it act on it?

# %%
before, after = (stories.episodes(artifacts, variant) for variant in ("imitation", "sr"))
tasks = {task.id: task for task in panel} if unit else {}
for what, task in stories.contrasts(before, after)[:3]:
    show.say(f"### {what}: `{task}`")
    for name, told in (("imitation", before), ("sr", after)):
        acted = [{**step, "action": declared(step["action"])} for step in told[task]]
        thought = [f"{step['step'] + 1}: {step['action'].splitlines()[0]}" for step in told[task]
                   if len(step["action"].splitlines()) > 1]
        show.say(f"`{name}`:", stories.trace(make(env, unit.data), tasks[task], acted))
        print("\n".join(thought))
if not before:
    show.say(NO_RUN)

# %% [markdown]
# ## Learning, and what goes wrong
#
# Rounds follow one another: of `iwm` first pages, then actions. A page's loss ends where what cannot be known begins.
# Where the second phase starts far above imitation's first update, world modelling has overwritten the policy.

# %%
points = stories.training_points(events)
if points:
    shown = ("imitation", "iwm", "sr", "star")
    show.show(figures.curves([p for p in points if p["variant"] in shown], ("loss", "grad_norm")))
    show.show(figures.curves([p for p in points if p["variant"].endswith("_rl")], ("reward", "kl_1")))
else:
    show.say(NO_RUN)

# %% [markdown]
# ## Exercises
#
# 1. Set `overrides = {"experience.k": 1}`. Does `iwm` need many alternatives, and what happens to `tokens@1`?
# 2. `{"learn.world_lr": 1e-3}` learns pages faster. What does it cost `iwm_world` in acting, and is it repaired?
# 3. Why can `exact@1` not reach 1? Find the three kinds of pages in the viewer that nobody could foresee.
# 4. `star` says wrong things before right actions. What does its last line then depend on?
# 5. Write a null test: give every variant the rows of imitation. What must the ladder show, exactly?

# %%
if unit:
    print(f"{len(own)} metric rows: {unit.run.path / 'rows.jsonl'}")
    print(f"executed by the sweep: results/{paper}/metrics.jsonl")
else:
    print(f"nothing was written; published rows: results/{paper}/metrics.jsonl")
