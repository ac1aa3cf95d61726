"""Training: losses as pure functions, and thin adapters that hand them to TRL and transformers trainers.

``losses`` the mathematics; ``settings`` of a training run and its statistics; ``batches`` text to
padded tensors in a seeded order; ``monitor`` the trainer: metrics, a stop at non-finite numbers, the
model left as it was; ``policy`` ``sft`` and ``dpo``; ``value`` a value head and its regression. Several
processes at one training: common.ranks.
"""
