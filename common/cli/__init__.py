"""Implementation of the commands of ``python -m common``: the only part that puts sweeps, tracking and reports together."""
