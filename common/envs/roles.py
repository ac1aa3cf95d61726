"""The three roles of multi-agent environments: one answers, one checks the answer, one answers again; the last answer counts."""

ROLES = ("generator", "verifier", "refiner")
"""In the order of their turns."""
