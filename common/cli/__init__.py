"""What each command of ``python -m common`` does: the only room that puts sweeps, tracking and reports together."""
