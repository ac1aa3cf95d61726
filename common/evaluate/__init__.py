"""Evaluation: metrics of rollouts, statistics, claims. Import the modules: ``common.evaluate.rollouts`` in a paper's
method, ``.stats``, ``.claims`` and ``.publish`` for judging results.

This file stays empty on purpose: what it imported would be part of every unit's code hash.
"""
