"""Shared library of the laboratory. Imports point one way: notebooks → papers → common."""
