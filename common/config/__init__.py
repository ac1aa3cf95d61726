"""Typed, strict parameters: ``params.yaml``, ``papers/<id>/params.yaml``, resolution and JSON.

    lab = load_lab(root, parse_assignments(["workers=1"]))
    spec = load_spec(root, "agent_q")
    cls = params_class(root, spec)              # of common.sweep.unit: needs no torch
    params = resolve(cls, spec, lab.profile, "shop-v1", {"search.alpha": 0.5})
    text = to_json(params)                      # to the notebook
    params = from_json(method.Params, text)     # in the notebook
"""

from common.config.lab import (
    PROFILES,
    RUN_PROFILES,
    LabParams,
    check_env,
    check_paper,
    check_profile,
    known_papers,
    load_lab,
    parse_assignments,
)
from common.config.ranges import Range, parse_range
from common.config.resolve import field_ranges, field_types, flat, from_json, ranges_of, resolve, to_json
from common.config.shared import Evaluation, Fit, ModelParams, UnitParams
from common.config.spec import Estimate, Parameter, PaperSpec, diff_presets, load_spec
from common.config.strict import ConfigError, check_value, hint, load_yaml, nearest, parse_yaml

__all__ = [
    "PROFILES", "RUN_PROFILES", "ConfigError", "Estimate", "Evaluation", "Fit", "LabParams", "ModelParams", "PaperSpec",
    "Parameter", "Range", "UnitParams", "check_env", "check_paper",
    "check_profile", "check_value", "diff_presets", "field_ranges", "field_types", "flat", "from_json", "hint", "known_papers",
    "load_lab", "load_spec", "load_yaml", "nearest", "parse_assignments", "parse_range", "parse_yaml", "ranges_of", "resolve",
    "to_json",
]
