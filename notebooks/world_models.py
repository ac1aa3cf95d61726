# %% [markdown]
# # World models: does it help to act to know what actions lead to?
#
# Two papers ask it, and this notebook serves both (parameter `paper`):
#
# - `early_experience` ([arXiv 2510.08558](https://arxiv.org/abs/2510.08558)): an agent that tries other actions than
#   its expert's, and learns what they lead to, acts better than one that only imitates, for equally many updates.
# - `webevolver` ([arXiv 2504.21024](https://arxiv.org/abs/2504.21024)): an agent that trains on its own successes stops
#   improving after a round; a world model trained on the same trajectories lets it practise in imagination, and look
#   ahead before it acts ([SimuRA](https://arxiv.org/abs/2507.23773) claims the same of planning).
#
# **What you will see**: the losses beside the functions that build their rows, worked out by hand; all variants from
# one start; imagined pages beside real ones; how foresight fades with depth; episodes read closely; training curves.
#
# **How long it takes**: nothing if this unit was run before (`make repro` runs seeds 0–4), otherwise about seven
# minutes on one CPU core at the profile `cpu`, seconds at `smoke`. Nothing here needs a GPU.

# %% tags=["parameters"]
paper: str = "early_experience"  # early_experience or webevolver
env: str = "shop-v1"  # the shop
seed: int = 0  # training seed; 0-4 are those of the published tables
profile: str = "cpu"  # smoke (seconds), cpu (minutes), or for early_experience smol: SmolLM2-135M, an hour
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
from common.envs.shop import judge as judging
from common.envs.shop import reading
from common.report import figures, imagined, planning, show, stories, tables
from common.search import experience, lookahead
from papers.early_experience import method as early
from papers.webevolver import method as evolver

root = project_root()

# %% [markdown]
# ## Early experience
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
#
# By hand: a nano policy learns no whole pages in its share of the updates, so the world model is asked in shorthand: shown
# is what the action touches, written what is new. It writes no free text, so a reflection has one form. What an outcome
# *means* is read off the page as a player would read it: what does the product lack of what the goal names?

# %%
show.say(*map(stories.source, (experience.try_others, early.world_rows, reading.outcome)))
goal = "portable safe stroller with color: white, and price lower than 70 dollars"
listed = "page 1\n1 nidoo portable safe stroller $33\n2 cribba safe natural stroller $32\nback to search"
prompt, rest = f"goal: {goal}\ndid: search\n{listed}", "chosen: none\nbuy now, < prev, back to search"
good = f"nidoo portable safe stroller $33\nabout: safe portable\ncolor: green white\n{rest}"
poor = f"cribba safe natural stroller $32\nabout: safe natural\ncolor: blue white\n{rest}"
tried = (experience.Tried("click[2]", poor), experience.Tried("click[white]", f"invalid action\n{listed}"))
moment = experience.Moment("toy", ({"role": "user", "content": prompt},), experience.Tried("click[1]", good), tried)
print("imitation  ", [row.completion for row in early.imitation_rows([moment])])
for row in early.world_rows([moment], 2):
    print("world model", row.prompt[0]["content"].split("\n")[1:], "→", row.completion.split("\n"))
for name, invent in (("sr", lambda real: real), ("star", lambda real: real[::-1])):
    print(name.ljust(11), [row.completion for row in early.reflection_rows([moment], 2, invent=invent)])

# %% [markdown]
# Look at the last line: the STaR-style control has the same sentences and the same actions, but what the other action
# led to was taken from another one. If grounding matters, `star` must fall behind `sr`.
#
# ## WebEvolver
#
# Two models start from the same base. In each round the policy $\pi$ plays its training tasks; it is trained anew on
# the trajectories that succeeded, the world model $w$ on the transitions of all:
#
# $$L_\pi=-\sum_{\tau:\,r(\tau)=1}\;\sum_t\log \pi(a_t|o_t)\qquad L_w=-\sum_{\tau}\sum_t\log w(o_{t+1}\,|\,o_t,a_t)$$
#
# The world model is shown the lines that an action touches and writes what is new (`common/envs/shop/shorthand.py`):
# asked for whole pages it learned the pages of its training by heart instead of reading the one in front of it.
#
# A *dream* is a trajectory of $\pi$ inside $w$, from a task that failed; where a judge who sees imagined pages only
# calls it done, it joins the policy's data. *Look-ahead* at test time: $k$ distinct actions are sampled, each is
# followed for $d$ steps in $w$, and the one whose imagined state the judge likes best is taken:
# $\arg\max_a J(o,\hat o^{(d)}(a))$, with $J$ one of 0 (wrong), ½ (on track) and 1 (done).
#
# By hand: the same list, a good and a poor product; two dreams, of which one is accepted; and what is learned from it.

# %%
show.say(*map(stories.source, (judging.standing, lookahead.foresee, evolver.dreamt_rows)))
ready = good.replace("chosen: none", "chosen: white")
pages = {name: ({"role": "user", "content": f"goal: {goal}\ndid: x\n{page}"},) for name, page in
         (("list", prompt.split("\n", 2)[2]), ("good", good), ("poor", poor), ("ready", ready))}
paths = {kind: [lookahead.Seen(pages["list"]), lookahead.Seen(pages[kind], "click[1]", page),
                *([lookahead.Seen(pages["ready"], "click[white]", ready)] if kind == "good" else []),
                lookahead.Seen(pages["ready"], "click[buy now]", "over", over=True)]
         for kind, page in (("good", good), ("poor", poor))}  # fmt: skip
for kind, path in paths.items():
    scores = [judging.judge(path[: n + 1]) for n in range(1, len(path))]
    print(f"{kind}: scores {scores}, learned {[row.completion for row in evolver.dreamt_rows([path])]}")

# %% [markdown]
# A dream is only as good as its pages: where the world model shows every product as fitting, all dreams are accepted,
# and what they teach is to buy anything. That is why a *blind* model, trained as long with the page hidden, dreams too.
#
# ## The run
#
# One unit trains and evaluates *all* variants of the paper from the same base, which plays the pretrained model's part:
# it can act a little, but has never written a page. A unit is computed once: opened again it is read from the run
# store, after a kill it goes on.

# %%
own, artifacts, events = [], Path("none"), Path("none")
if unit:
    artifacts, events = unit.run.artifacts, unit.run.path / "events.jsonl"
    with show.progress(unit.run):
        own = importlib.import_module(f"papers.{paper}.method").run(unit)

# %% [markdown]
# ## Results, against the paper's
#
# The paper's numbers come from models of 3 B to 8 B parameters on the real WebShop: compare directions, never sizes.

# %%
others, where = stories.published(root, paper, env, profile)
rows = stories.together(own, [] if overrides else others)
plans = [f"webevolver+{how}" for how in evolver.PLANS]
order = ("start", "iwm_world", "star", "imitation", "iwm", "sr", "imitation_eighth", "iwm_eighth", "sr_eighth",
         "imitation_rl", "iwm_rl", "sr_rl", "self_1", "self_2", "self_3", "blind", "webevolver")
ladder = stories.present(rows, order)
show.say("**In the paper**", stories.section(root / "papers" / paper / "README.md", "What the paper reports"),
         f"**Here.** {where} " + (f"This unit (seed {seed}) joins them." if own and not overrides else ""),
         tables.summary_table(rows, ladder, ("success", "score", "invalid", "repeated", "truncated")))
known = {}
if unit:
    panel = load_panel(unit.data, f"{env}/{unit.params.panels[0]}")
    known["lazy agent"] = stories.lazy_success(make(env, unit.data), panel)
show.show(figures.ladder(rows, ladder, references=known))
show.say("What each variant executed, sampled and learned from:", tables.cost_table(rows, ladder))

# %% [markdown]
# The lines are 95 % t-intervals over training seeds; with one seed there is none, and no claim can be judged. Equal
# updates are not equal costs: see the table.
#
# ## The paper's own question
#
# `early_experience`: success against the share of demonstrated tasks; the lines should be further apart on the left.
# `webevolver`: foresight by depth beside success by depth of look-ahead. A second step can only pay where the second
# page is foreseen; with real pages both depths are foreseen perfectly. All act with the same weights on the same tasks.

# %%
if paper == "webevolver":
    lines = {"imagined": {0: "webevolver", 1: "webevolver+d1", 2: "webevolver+d2"}, "blind": {2: "webevolver+blind"},
             "real pages": {0: "webevolver", 1: "webevolver+real_d1", 2: "webevolver+real"}}
    bounds = {"exact values": "webevolver+oracle", "votes": "webevolver+votes"}
    worlds = ("world_1", "world_2", "world_3", "world_blind")
    show.show(planning.foresight_and_success(rows, worlds, lines, bounds))
    acting = stories.present(rows, ("webevolver", *plans), "planned_success")
    show.show(figures.ladder(rows, acting, metric="planned_success"))
    show.say(tables.cost_table(rows, acting))
else:
    series = {kind: {0.125: f"{kind}_eighth", 1.0: kind} for kind in ("imitation", "iwm", "sr")}
    show.show(figures.ablation(rows, series, xlabel="share of the demonstrated tasks"))

# %% [markdown]
# ## Imagined and real, step by step
#
# A model is asked what follows an action, then what follows the next one *in the state it imagined*. Underlined:
# real but not imagined; struck out: imagined but not real. Ask of each error whether it could have been known: a
# product's attributes beyond its title are nowhere on the page before, nor are the products that a search finds.

# %%
NO_RUN = "No run of this unit is in this machine's store, so there is nothing to look at: `make repro` runs it."
for name in ("world_3", "world_blind") if paper == "webevolver" else ("iwm_world", "iwm"):
    found = imagined.walks(artifacts, name)
    show.say(f"**`{name}`**" if found else NO_RUN)
    display(HTML(imagined.viewer(imagined.differing(found, most=2))))

# %% [markdown]
# How foresight fades with depth, word by word. Of `early_experience`, `start` and `imitation` were never asked this
# question: they are what no training gives. Of `webevolver`, `world_blind` shows how much can be written without
# seeing the page. Below: decisions that look-ahead changed, with what it believed.

# %%
foresight = ("start", "imitation", "iwm_world", "iwm", "iwm_rl", "world_1", "world_2", "world_3", "world_blind")
show.show(imagined.depths(rows, stories.present(rows, foresight, "tokens@1")))
if paper == "webevolver":
    display(HTML(planning.viewer(planning.telling(planning.decisions(artifacts, "webevolver+d2")))))

# %% [markdown]
# ## Three episodes read closely
#
# The same tasks by the baseline and by the method: one that was learned, one that was lost, one that stays
# unsolved, as far as the kept episodes have them. $Q^*$ is what the action taken is worth, $V^*$ the best there was.
# Of `sr`, below each, what the policy wrote before it acted: did it foresee rightly, and did it act on it?

# %%
pair = ("self_3", "webevolver+d2") if paper == "webevolver" else ("imitation", "sr")
before, after = (stories.episodes(artifacts, variant) for variant in pair)
tasks = {task.id: task for task in panel} if unit else {}
for what, task in stories.contrasts(before, after)[:3]:
    show.say(f"### {what}: `{task}`")
    for name, told in zip(pair, (before, after)):
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
# Of `iwm` first pages, then actions: a page's loss ends where what cannot be known begins, and where the second phase
# starts far above imitation's first update, world modelling has overwritten the policy. Of `webevolver`, a world
# model's loss goes on where the round before ended, and the policies' should be alike: they imitate one agent.

# %%
points = stories.training_points(events)
if points:
    shown = ("imitation", "iwm", "sr", "star", "self_1", "self_3", "blind", "webevolver", "world_1", "world_3")
    show.show(figures.curves([p for p in points if p["variant"] in shown], ("loss", "grad_norm")))
    if paper == "early_experience":
        show.show(figures.curves([p for p in points if p["variant"].endswith("_rl")], ("reward", "kl_1")))
else:
    show.say(NO_RUN)

# %% [markdown]
# ## Exercises
#
# 1. `early_experience`, `{"experience.k": 1}`: does `iwm` need many alternatives, and what happens to `tokens@1`?
# 2. `early_experience`, `{"learn.world_lr": 1e-3}` learns pages faster. What does it cost `iwm_world` in acting?
# 3. Why can `exact@1` not reach 1? Find the three kinds of pages in the viewer that nobody could foresee.
# 4. `star` says wrong things before right actions. What does its last line then depend on?
# 5. `webevolver`, `{"world.updates": 50}`: which of +d1 and +d2 suffers first, and what does the left figure say?
# 6. `webevolver`, `{"dream.attempts": 1}`: are fewer dreams worse, or is it their pages that matter?
# 7. Write a null test: train `webevolver` with a judge that accepts nothing. Which variant must it equal, exactly?

# %%
if unit:
    print(f"{len(own)} metric rows: {unit.run.path.relative_to(root) / 'rows.jsonl'}")
    print(f"executed by the sweep: results/{paper}/metrics.jsonl")
else:
    print(f"nothing was written; published rows: results/{paper}/metrics.jsonl")
