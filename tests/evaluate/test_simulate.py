"""The simulation reads intervals as verdicts do, and its published numbers come out again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from common.config.strict import ConfigError
from common.evaluate.claims import LOOKS, load_claims
from common.evaluate.simulate import (
    ALPHA, CASES, CLAIMS, DISTRIBUTIONS, MARGIN, RESULT, decided, false_rate, intervals, read_simulation, rule_block, simulate, statements,
)
from common.evaluate.stats import nominal_level, power
from common.evaluate.verdicts import judge, read_interval
from common.rng import generator
from tests.evaluate.claims_files import claims_file, rows_of

ROOT = Path(__file__).resolve().parents[2]


def test_intervals_and_statements_are_those_of_the_rule(tmp_path):
    """Families of four claims through rows, claims file and judge, against the arrays of the simulation."""
    differences = DISTRIBUTIONS["normal"](generator(1, "test"), np.tile([0.0, 0.8, -1.0, 0.05], (12, 1)), 20) * 0.02  # a margin of 1.5 sd is .03
    low, high = intervals(differences)
    said = statements(low, high, 0.03)
    names = "abcd"
    paper = load_claims(claims_file(tmp_path, *({"better": name, "worse": "z"} for name in names)))
    seen = set()
    for family in range(12):
        for look, n in enumerate(LOOKS):
            rows = rows_of("z", [0.5] * n)
            for name, values in zip(names, differences[family]):
                rows += rows_of(name, [0.5 + value for value in values[:n]])
            for k, record in enumerate(judge(paper, rows).claims):
                assert (record["ci_low"], record["ci_high"]) == pytest.approx((low[family, k, look], high[family, k, look]), rel=1e-4, abs=1e-8)
                within = said["within the margin"][family, k, look]
                expected = next((v for v in ("supported", "contradicted") if said[v][family, k, look]), "no effect" if within else "undecided")
                assert record["verdict"] == expected
                assert within == ("±0.03: the interval is" in record["reason"] or "smallest effect of interest" in record["reason"])
                seen.add(expected)
    assert {"supported", "contradicted", "undecided"} <= seen


def test_bounds_are_open_as_in_the_rule(tmp_path):
    claim = load_claims(claims_file(tmp_path, {})).claims[0]
    for low, high in ((0.0, 0.01), (-0.03, 0.01), (-0.01, 0.03), (-0.02, 0.0), (1e-9, 0.01), (-0.01, -1e-9)):
        said = {name: bool(where) for name, where in statements(np.array(low), np.array(high), 0.03).items()}
        verdict = next((v for v in ("supported", "contradicted") if said[v]), "no effect" if said["within the margin"] else "undecided")
        assert read_interval(claim, low, high)[0] == verdict


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_differences_have_the_mean_and_spread_that_effects_are_told_in(name):
    drawn = DISTRIBUTIONS[name](generator(0, name), np.tile([0.0, 1.5], (4000, 1)), 20)
    assert drawn.shape == (4000, 2, 20)
    assert drawn.mean(axis=(0, 2)) == pytest.approx([0.0, 1.5], abs=0.03)
    assert np.sqrt(drawn.var(axis=(0, 2))) == pytest.approx([1.0, 1.0], abs=0.06)  # t3 has no fourth moment


def test_a_rule_without_correction_would_be_caught(monkeypatch):
    """At the level of a single look of a single claim, four claims at two looks are wrong far too often."""
    from common.evaluate import simulate as module

    normal = DISTRIBUTIONS["normal"]
    assert false_rate(normal, CASES["no effect"], 4000) == pytest.approx(ALPHA, abs=0.011)  # three standard errors
    monkeypatch.setattr(module, "nominal_level", lambda alpha, looks: ALPHA)
    assert false_rate(normal, CASES["no effect"], 4000) > 0.2
    assert false_rate(normal, CASES["at the margin"], 4000) > 0.1


def test_power_agrees_with_the_noncentral_t():
    level = nominal_level(ALPHA / CLAIMS, LOOKS)
    found = decided("supported", 1.0, 8000)
    assert found == pytest.approx([power(1.0, 1.0, n, alpha=level) for n in LOOKS], abs=0.02)
    assert decided("no effect", 0.1, 400) == [0.0, 0.0]  # no interval is so narrow


def test_the_published_simulation_comes_out_again():
    """At a fiftieth of the families: within three standard errors of both."""
    published, again = read_simulation(ROOT), simulate(2000)
    settings = ("alpha", "claims", "looks", "level", "margin", "sizes", "detectable")
    assert {name: published[name] for name in settings} == {name: again[name] for name in settings}
    for name, rates in published["false_statements"].items():
        for case, rate in rates.items():
            error = 3 * np.sqrt(max(rate * (1 - rate), 1e-4) * (1 / 2000 + 1 / published["families"]))
            assert again["false_statements"][name][case] == pytest.approx(rate, abs=error), (name, case)
    for key in ("supported", "no_effect"):
        assert np.abs(np.subtract(again[key], published[key])).max() < 0.06


def test_what_the_block_says(tmp_path):
    assert rule_block(tmp_path) == "The rule has not been simulated yet."
    found = {"alpha": 0.05, "claims": 4, "looks": [10, 20], "level": 0.007, "families": 1000, "margin": MARGIN, "standard_error": 0.0069,
             "false_statements": {"normal": dict.fromkeys(CASES, 0.06), "lognormal": dict.fromkeys(CASES, 0.4)}, "sizes": [0.0, 1.0, 2.0],
             "supported": [], "no_effect": [[0.0, 0.0], [0.4, 0.6], [0.7, 1.0]], "detectable": [1.4, 0.9]}  # fmt: skip
    path = tmp_path / RESULT
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(found))
    text = rule_block(tmp_path)
    assert "each interval has confidence 99.30 %" in text and "| normal | 0.0600 | 0.0600 | 0.0600 |" in text
    assert "| lognormal | **0.4000** |" in text and "(lognormal)" in text  # .06 is within two standard errors of .05
    assert "from a margin of more than 2 and 1.50." in text  # .6 + half of the way to 1
    path.write_text("{")
    with pytest.raises(ConfigError, match="simulate-rule"):
        rule_block(tmp_path)


def test_the_picture_follows_from_the_published_numbers():
    from PIL import Image

    from common.report.verdict_rule import PICTURE, draw, source

    found = read_simulation(ROOT)
    assert Image.open(ROOT / PICTURE).info["Source"] == source(found)
    wrong, supported, none = draw(found).axes
    assert [list(line.get_ydata()) for line in wrong.lines[:-1]] == [list(rates.values()) for rates in found["false_statements"].values()]
    assert list(supported.lines[1].get_ydata()) == [pair[1] for pair in found["supported"]]
    assert list(none.lines[0].get_ydata()) == [pair[0] for pair in found["no_effect"]]
