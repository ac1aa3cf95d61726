"""Where a gain between two turns comes from: keeping right answers, or repairing wrong ones.

With p_a(q) the chance that the first answer to question q is right, p_b(q) that a second one is right after a right
first one and p_c(q) after a wrong first one (Confidence v.s. Critique, arXiv 2412.19513, §3):

    CL = Σ p_a·p_b / Σ p_a        CS = Σ (1 − p_a)·p_c / Σ (1 − p_a)        Acc_1 = mean of p_a
    Acc_2 = Acc_1·CL + (1 − Acc_1)·CS

so that the gain is exactly a loss of confidence and a gain by critique,

    Δ = Acc_2 − Acc_1 = Acc_1·(CL − 1) + (1 − Acc_1)·CS = −c2i + i2c.

Between two policies all three of Acc_1, CL and CS move. As Δ is a sum of products of at most two of them, its Shapley
values have a closed form: each factor's change times the mean of what it is multiplied with, before and after:

    by CL: ΔCL · mean(Acc_1)     by CS: ΔCS · mean(1 − Acc_1)     by Acc_1: ΔAcc_1 · (mean(CL) − 1 − mean(CS))

They add up to the change of Δ exactly, and none depends on the order in which the factors are changed. The part by
Acc_1 is not self-correction: with CL < 1 + CS, always so, whoever is right more often at first has less to repair.
"""

from __future__ import annotations

from dataclasses import dataclass

from common.evaluate.correction import relative_score


@dataclass(frozen=True)
class Levels:
    """Acc_1, CL and CS, each in [0, 1]; ``cl`` is None where nothing was right at first, ``cs`` where all was."""

    acc_1: float
    cl: float | None
    cs: float | None

    def __post_init__(self) -> None:
        for name, value in (("acc_1", self.acc_1), ("cl", self.cl), ("cs", self.cs)):
            if value is not None and not -1e-9 <= value <= 1 + 1e-9:
                raise ValueError(f"levels: {name} {value} must lie in [0, 1]; give shares, not percentages")
        if (self.cl is None) != (self.acc_1 == 0.0) or (self.cs is None) != (self.acc_1 == 1.0):
            raise ValueError(f"levels: cl {self.cl} and cs {self.cs} at acc_1 {self.acc_1}, but cl must be absent just "
                             "where nothing was right at first and cs where all was; leave out what is undefined")

    @property
    def confidence(self) -> float:
        """Acc_1·(CL − 1) ≤ 0, the share of questions whose right answer is broken, with a minus sign."""
        return self.acc_1 * (self.cl - 1) if self.cl is not None else 0.0

    @property
    def critique(self) -> float:
        """(1 − Acc_1)·CS ≥ 0, the share of questions whose wrong answer is repaired."""
        return (1 - self.acc_1) * self.cs if self.cs is not None else 0.0

    @property
    def delta(self) -> float:
        return self.confidence + self.critique

    def report(self, prefix: str = "") -> dict[str, float]:
        """``acc@1``, ``acc@2``, ``delta``, ``cl``, ``cs``, ``rss``; what is undefined is absent."""
        acc_2 = min(max(self.acc_1 + self.delta, 0.0), 1.0)
        metrics = {"acc@1": self.acc_1, "acc@2": acc_2, "delta": self.delta, "cl": self.cl, "cs": self.cs,
                   "rss": relative_score(self.acc_1, acc_2)}  # fmt: skip
        return {f"{prefix}{name}": value for name, value in metrics.items() if value is not None}


@dataclass(frozen=True)
class Change:
    """The change of Δ from one policy to another, in parts that add up to ``total`` exactly."""

    first: float
    """By Acc_1: fewer wrong first answers are left to repair, more right ones to break."""
    confidence: float
    """By CL."""
    critique: float
    """By CS."""

    @property
    def total(self) -> float:
        return self.first + self.confidence + self.critique


def change(before: Levels, after: Levels) -> Change:
    """Shapley values of Acc_1, CL and CS for the change of Δ (see the module's docstring).

    An undefined level takes the other policy's value: it has no weight where it is undefined. Raises ValueError
    when it is undefined for both.
    """
    cl, cs = _both(before.cl, after.cl, "cl"), _both(before.cs, after.cs, "cs")
    middle = (before.acc_1 + after.acc_1) / 2
    return Change(
        first=(after.acc_1 - before.acc_1) * (sum(cl) / 2 - 1 - sum(cs) / 2),
        confidence=(cl[1] - cl[0]) * middle,
        critique=(cs[1] - cs[0]) * (1 - middle),
    )


def _both(before: float | None, after: float | None, name: str) -> tuple[float, float]:
    if before is None and after is None:
        raise ValueError(f"change: {name} is undefined for both policies, so its part has no value; "
                         "compare policies that are sometimes right and sometimes wrong at first")
    one = after if before is None else before
    two = before if after is None else after
    return one, two  # type: ignore[return-value]
