"""Sentences that rest on claims: ``[cory D3.4 contradicted]`` in a document, which the command ``claims`` makes ``[cory D3.4
contradicted, -0.067]``.

The verdict is written by hand, beside the sentence that it bears; the effect, positive where it speaks for the claim, is filled in. When
results change, the effect follows, and a verdict that is another now is a disagreement: somebody has to read the sentence again. A
claim that is judged on several panels may name its environment, ``[spo D2.21a@duel-transitive-v1 no effect]``; else the first counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from common.config.strict import ConfigError, hint
from common.evaluate.verdicts import VERDICTS

PROFILE = "cpu"
"""Findings are about what anybody can compute again."""
_CITED = re.compile(rf"\[(\w+) ([DO]\d+\.\d+\w?)(@[\w-]+)? ({'|'.join(sorted(VERDICTS, key=len, reverse=True))})(, [^\]\n]*)?\](?!\()")


def cited(text: str, records: Sequence[Mapping[str, Any]], where: str) -> str:
    """``text`` with the effect of each claim that it cites. ConfigError, which ``where`` begins, for one that there is not."""
    parts, at = [], 0
    for mark, record in _marks(text, records, where):
        paper, name, env, verdict, _ = mark.groups(default="")
        parts += [text[at : mark.start()], f"[{paper} {name}{env} {verdict}, {record['effect']:+.3f}]"]
        at = mark.end()
    return "".join([*parts, text[at:]])


def misquoted(text: str, records: Sequence[Mapping[str, Any]], where: str) -> list[str]:
    """A sentence for each citation whose verdict is another one in ``records``."""
    return [f"{where} says {mark[1]} {mark[2]} is {mark[4]}, and it is {record['verdict']}; read the sentence again and correct it"
            for mark, record in _marks(text, records, where) if mark[4] != record["verdict"]]  # fmt: skip


def _marks(text: str, records: Sequence[Mapping[str, Any]], where: str) -> Iterator[tuple[re.Match[str], Mapping[str, Any]]]:
    """Each citation with the record that it is about."""
    known: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    for record in records:
        if record["profile"] == PROFILE and record["effect"] is not None:
            known.setdefault((record["paper"], record["id"], ""), record)
            known.setdefault((record["paper"], record["id"], f"@{record['env']}"), record)
    for mark in _CITED.finditer(text):
        key = (mark[1], mark[2], mark[3] or "")
        if key not in known:
            name, names = f"{mark[1]} {mark[2]}{key[2]}", [f"{paper} {claim}{env}" for paper, claim, env in known]
            raise ConfigError(f"{where}: there is no claim {name} with a result; {hint(name, names)}")
        yield mark, known[key]
