"""Three roles at one problem: one answers, one checks the answer, one answers again; the last answer counts."""

ROLES = ("generator", "verifier", "refiner")
"""In the order of their turns."""
