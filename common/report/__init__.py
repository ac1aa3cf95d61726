"""Presentation of results: figures, tables, the parts of notebooks, the site, and exports. Nothing here computes a result.

    published, tables, figures, correction     rows of a paper; Markdown tables; figures that several papers share
    examples, story, show, toy                 what a notebook shows: cases that a unit recorded, its cells, how, and by hand
    pages, notebooks, pictures, site           the site: Markdown, executed notebooks, a paper's figures, the build
    selfcontained                              formulas as SVG, and the check that a page loads nothing
    sweeps, unit_pages                         a sweep as table and picture; a unit's pages in MLflow
    exports/                                   RO-Crate, Croissant, model cards, MLflow's model registry

None of it is part of a result's key, so a changed plot leaves finished units finished.
"""
