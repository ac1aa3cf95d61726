"""A light stand-in for the part-of-speech step of WebShop's type factor.

The released engine tags titles with a large spaCy model and keeps nouns and proper nouns. Shop titles
are capitalised noun phrases, in which such a tagger calls nearly every content word a (proper) noun.
So the rule here keeps every alphabetic word but function words, units, and frequent adjectives that are
not capitalised. Against a small spaCy model on the real titles it has 93 % precision and 96 % recall
(92 % with nouns that hold digits); the type factor then differs for 2.9 % of random (product, goal) pairs and
for 6.8 % of the pairs that the listed queries bring up.
"""

from __future__ import annotations

import re

_WORD = re.compile(r"[A-Za-z][A-Za-z']*")

_NOT_NOUNS = frozenset("""
a all an and any are as at be both but by can do each every for from has have i if in into is it its made make me more
most my no non not of off on one only or our out over per plus so than that the their this these to two three four five
six ten under up very via was we will with within without you your
pcs oz ml inch inches ft mp pc ps th cm mm fl lb lbs g kg mah mbps mhz ghz v k xl xxl w
""".split())

_ADJECTIVES = frozenset("""
anti big black blue bold bright brown casual classic clean clear comfy cool cozy cute dark deep dry easy extra fancy
fast fine fit flat free fresh full gray great green grey hard heavy high hot large light little long loose low medium
mini multi natural new nice old open orange organic original perfect pink plain pre premium pure purple quick raw real
red rich round royal safe semi sexy short slim small smart soft solid square strong super sweet tall thick thin tiny
ultra vegan vintage warm wet white wide wild yellow
""".split())


def title_nouns(title: str) -> frozenset[str]:
    """Lower-case nouns of a product title, by rule."""
    nouns = set()
    for word in _WORD.findall(title):
        lower = word.lower().removesuffix("'s")
        adjective = lower in _ADJECTIVES and not word[0].isupper()
        if len(lower) > 1 and lower not in _NOT_NOUNS and not adjective:
            nouns.add(lower)
    return frozenset(nouns)
