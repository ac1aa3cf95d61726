"""Benchmarks of the lab's inner loops against the libraries that one would use instead: ``make bench``."""
