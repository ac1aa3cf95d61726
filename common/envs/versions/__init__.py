"""One module for each version of an environment; :func:`common.envs.make` finds it by the id."""
