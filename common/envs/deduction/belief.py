"""Exact beliefs about the impostor, and what votes by such beliefs would win.

An ideal listener knows what itself saw, hears messages, and believes in a *speaker model*: a crew member truly names
one of the two it saw, either equally often, with probability ρ, and else says any of the 5 messages of the grammar; an
impostor says any of them. That nearly describes the demonstrators (who also repeat each other); for trained speakers it
is a yardstick, not the truth about them.

Passers-by are independent of each other, so messages are independent given the impostor and each is summed over its
speaker's passer-by alone; the tests compare this with the sum over all 405 worlds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import product
from statistics import fmean

from common.envs.deduction.world import COLOURS, Pair, World, crew_of, messages, seen

TRUST = 0.9
"""ρ of the listener that measures how much messages tell. Below 1, so that a contradiction is no division by zero."""
Heard = Sequence[tuple[str, str]]
"""(speaker, text) in the order spoken. Text outside the grammar tells nothing."""
Belief = dict[str, float]
"""Colour → probability of being the impostor; sums to 1."""


@cache
def likelihood(impostor: str, speaker: str, text: str, trust: float) -> float:
    """P(text | impostor) by the speaker model with ρ = ``trust``; 1 for text outside the grammar, whoever it is."""
    if text not in messages(speaker):
        return 1.0
    blind = 1 / len(messages(speaker))
    if speaker == impostor:
        return blind
    passers = [colour for colour in crew_of(impostor) if colour != speaker]
    truthful = fmean((impostor, one).count(text) / 2 for one in passers)
    return (1 - trust) * blind + trust * truthful


def ideal(player: str, pair: Pair, heard: Heard = (), *, trust: float = TRUST) -> Belief:
    """Posterior over the impostor, colour → probability, of an ideal crew member who saw ``pair`` and heard ``heard``.

    Its own messages are no news to it. ``heard`` = () is the belief from own observation alone.
    """
    weights = dict.fromkeys(COLOURS, 0.0)
    for suspect in pair:
        weights[suspect] = math.prod(likelihood(suspect, who, text, trust) for who, text in heard if who != player)
    total = sum(weights.values())
    return {colour: weight / total for colour, weight in weights.items()}


# -- votes ----------------------------------------------------------------------------------------------------------


def ejected(votes: Sequence[str]) -> str | None:
    """The colour with strictly more votes than any other, None for a tie. Votes that name no colour count for none."""
    counts = sorted(((list(votes).count(colour), colour) for colour in COLOURS), reverse=True)
    return counts[0][1] if counts[0][0] > counts[1][0] else None


def win_probability(voters: Sequence[Belief], impostor: str) -> float:
    """P(the impostor is ejected) when every voter draws its vote from its distribution, independently; exact."""
    total = 0.0
    options = [[(colour, p) for colour, p in voter.items() if p > 0] for voter in voters]
    for ballot in product(*options):
        if ejected([colour for colour, _ in ballot]) == impostor:
            total += math.prod(p for _, p in ballot)
    return total


def most_suspect(belief: Belief) -> Belief:
    """Vote distribution of a voter that follows its belief: uniform over the likeliest colours."""
    top = max(belief.values())
    best = [colour for colour, p in belief.items() if p >= top - 1e-9]
    return {colour: float(colour in best) / len(best) for colour in belief}


def ideal_win(world: World, heard: Heard = (), *, trust: float = TRUST) -> float:
    """P(win) of four ideal listeners that vote for whom they suspect most. ``heard`` = (): without communication."""
    voters = [most_suspect(ideal(one, seen(world, one), heard, trust=trust)) for one in world.crew]
    return win_probability(voters, world.impostor)
