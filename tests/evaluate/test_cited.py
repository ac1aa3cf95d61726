"""Claims that documents cite: effects are filled in, verdicts are the writer's, and one that is another now is found."""

from __future__ import annotations

import pytest

from common.config.strict import ConfigError
from common.evaluate.cited import cited, misquoted


def record(paper: str, claim: str, env: str, verdict: str, effect: float | None, profile: str = "cpu") -> dict:
    return {"paper": paper, "id": claim, "env": env, "verdict": verdict, "effect": effect, "profile": profile}


RECORDS = [
    record("toy", "D1.1a", "first-v1", "supported", 0.5, profile="smol"), record("toy", "D1.1a", "first-v1", "supported", 0.1234),
    record("toy", "D1.1a", "second-v1", "no effect", -0.0004), record("toy", "O1.2", "first-v1", "contradicted", -0.05),
    record("toy", "D1.3", "first-v1", "undecided", None),
]  # fmt: skip


def test_effects_are_filled_in_and_follow_the_results():
    text = "It rises [toy D1.1a supported], not there [toy D1.1a@second-v1 no effect, +9.000] but [toy O1.2 contradicted, -0.050]."
    filled = "It rises [toy D1.1a supported, +0.123], not there [toy D1.1a@second-v1 no effect, -0.000] but [toy O1.2 contradicted, -0.050]."
    assert cited(text, RECORDS, "page") == filled and cited(filled, RECORDS, "page") == filled
    assert misquoted(filled, RECORDS, "page") == []


def test_what_is_no_citation_stays():
    text = "[toy D1.1a supported](link) and [toy D1.1a] and [D1.1a supported] and [toy D1.1a certain]"
    assert cited(text, RECORDS, "page") == text and misquoted(text, RECORDS, "page") == []


def test_a_verdict_that_is_another_now_is_the_writer_s_to_mend():
    text = "It rises [toy O1.2 supported, +0.400]."
    assert cited(text, RECORDS, "page") == "It rises [toy O1.2 supported, -0.050]."
    [problem] = misquoted(text, RECORDS, "docs/page.md")
    assert problem == "docs/page.md says toy O1.2 is supported, and it is contradicted; read the sentence again and correct it"


@pytest.mark.parametrize("name", ["toy D9.9", "toy D1.1a@third-v1", "toy D1.3", "other O1.2"])
def test_a_claim_without_a_result_is_an_error(name):
    for read in (cited, misquoted):
        with pytest.raises(ConfigError, match=f"page: there is no claim {name} with a result"):
            read(f"[{name} supported]", RECORDS, "page")
