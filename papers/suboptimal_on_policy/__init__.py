"""Suboptimal, on-policy data: see method.py."""
