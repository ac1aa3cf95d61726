"""One folder for each paper that was replicated."""
