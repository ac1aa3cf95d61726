"""Losses as pure functions, and thin adapters that hand them to TRL and transformers trainers.

``losses`` the mathematics; ``settings`` what a training run is given and returns; ``batches`` text to
padded tensors in a seeded order; ``watch`` streaming, stopping on non-finite numbers, leaving the
model as it was; ``policy`` ``sft`` and ``dpo``; ``value`` a value head and its regression. Several
processes at one training: common.ranks.
"""
