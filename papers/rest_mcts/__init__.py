"""ReST-MCTS* (arXiv:2406.03816): a process reward model from search trees, and a policy from what it leads the search to."""
