"""Figures, tables, the stories that notebooks tell, and the site. Nothing here computes a result.

Notebooks that execute units load this package by name (``importlib``), so that a changed plot does not
change the code a unit can reach, and finished units stay finished.
"""
