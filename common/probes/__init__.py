"""Fixed experiments on the shared layers: what each layer does, in numbers and texts (:mod:`common.sweep.attest`).

A probe is a function without arguments (those of environments: of an id) that returns a flat mapping name → number or text,
the same each time. It runs its layer on inputs of its own and imports no other project code than the layer needs, since its
imports decide which files it covers (:mod:`common.track.layers`). Papers and units never import a probe.
"""


class NotAttestable(Exception):
    """A probe cannot run here; the message says what is missing."""
