# %% [markdown]
# # Report: do the papers' claims hold?
#
# Made from the tables in `results/` alone, by `make report`; nothing is trained here. The training seed is the unit of
# all statistics: intervals are 95 % t-intervals over seeds, comparisons are paired by seed, and the intervals of a paper's
# claims on a panel are so wide that they hold together.

# %% tags=["parameters"]
profile: str = "cpu"  # whose figures to draw; smoke has tables of its own, all others share results/

# %%
from common.evaluate.claims import headline_metric
from common.evaluate.publish import judge_all, load_rows
from common.evaluate.tables import claims_table
from common.report import figures, published, tables
from common.report.show import say, show
from common.report.story import notebook_content
from common.sweep.unit import project_root, results_dir

root = project_root()
results = results_dir(root, profile)
everything = judge_all(results, root / "papers")
rows = [row for row in load_rows(results) if row.profile == profile]
records = [record for record in everything.claims if record["profile"] == profile]

# %%
papers, seeds = sorted({row.paper for row in rows}), sorted({row.seed for row in rows})
ladders = {paper: notebook_content(root, paper).ladder for paper in papers}
headlines = {paper: headline_metric(root / "papers" / paper / "claims.yaml") for paper in papers}
places = sorted({(row.paper, row.env) for row in rows})
say(f"{len(rows):,} metric rows and {len(records)} verdicts, from {f'seeds {seeds[0]} to {seeds[-1]}' if seeds else 'no seed yet'}; "
    f"{', '.join(f'{paper} on {env}' for paper, env in places) or 'nothing has been run yet'}.")

# %% [markdown]
# ## Verdicts
#
# *Supported*: the interval lies above what the claim says at least (0 unless it says so). *Contradicted*: it lies below. *No effect*: it
# holds 0 and lies inside the smallest effect of interest, ±margin. *Undecided*: everything else, with the reason; it does not mean that
# there is no effect. *Not testable here*: an admission check failed. The tables are of all profiles; figures and costs below are of the
# one above.

# %%
say(claims_table(everything))

# %%
for paper in papers:
    mine = [record for record in records if record["paper"] == paper]
    say(f"**{paper}**, by {headlines[paper]}")
    show(figures.forest(mine, metric=headlines[paper]))

# %% [markdown]
# ## The ladder
#
# From the bottom to the top as the paper orders it. Small dots are single seeds; orange variants search at test time.
# At the right: mean ± half the interval, seeds × tasks.

# %%
for paper, env in places:
    mine = [row for row in rows if (row.paper, row.env) == (paper, env)]
    metric = headlines[paper]
    say(f"**{paper}** on **{env}**")
    show(figures.ladder(mine, published.present(mine, ladders[paper], metric), metric=metric))

# %% [markdown]
# ## Search at test time
#
# Each policy alone, as the best of n episodes by its own critic (`+bon`), and planning by tree search (`+mcts`), all on
# the same tasks.

# %%
for paper, env in places:
    mine = [row for row in rows if (row.paper, row.env) == (paper, env)]
    if searched := published.acting(mine, ladders[paper]):
        show(figures.ladder(mine, searched, metric="planned_success"))

# %% [markdown]
# ## Are the preference pairs right?
#
# Every pair is checked against exact values of the environment's own solver. A larger threshold θ should leave fewer
# pairs, and more of them right.

# %%
for paper in papers:
    mine = [row for row in rows if row.paper == paper]
    if any(row.variant.startswith(f"{paper}@theta=") for row in mine):
        show(figures.audit(mine, f"{paper}@theta="))

# %% [markdown]
# ## What it cost
#
# Means over seeds of everything a variant spent, simulated steps included; `+mcts` and `+bon` include what acting took.
# Claims name the axis on which their variants are matched.

# %%
for paper in papers:
    mine = [row for row in rows if row.paper == paper]
    shown = dict.fromkeys([*ladders[paper], *published.acting(mine, ladders[paper])])
    say(f"**{paper}**", tables.cost_table(mine, list(shown)))
say("Time and disk of one unit:", tables.timing_table(results))

# %% [markdown]
# ## What the results were made with
#
# The code, parameters, data, base model, lock and seed of each unit make its key; MLflow holds its commit and diff.

# %%
say(tables.environment_table(root))

# %% [markdown]
# ## What was learned
#
# In short, each sentence with its claims; family by family in `docs/findings.md`.

# %%
say(published.section(root / "docs/findings.md", "In short"))
