"""The files of configs/accelerate are what accelerate itself reads, and their names say what they start."""

from __future__ import annotations

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "accelerate"
STARTED = {"cpu2": ("MULTI_GPU", 2), "gpu1": ("NO", 1), "gpu2": ("MULTI_GPU", 2), "gpu8": ("MULTI_GPU", 8),
           "gpu8_fsdp": ("FSDP", 8)}  # fmt: skip


def test_every_file_is_known_here():
    assert {path.stem for path in FOLDER.iterdir()} == set(STARTED)


@pytest.mark.parametrize("name", STARTED)
def test_accelerate_loads_it(name):
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))  # raises for a key that accelerate does not know
    assert (config.distributed_type.value, config.num_processes) == STARTED[name]
    assert config.num_machines == 1 and config.use_cpu == (name == "cpu2")
    assert config.mixed_precision == ("bf16" if name == "gpu8_fsdp" else "no")


@pytest.mark.parametrize("name", STARTED)
def test_the_launcher_takes_it(name, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    given = launch_command_parser().parse_args(["--config_file", str(FOLDER / f"{name}.yaml"), "script.py"])
    chosen, *_ = _validate_launch_command(given)
    assert (chosen.num_processes, chosen.multi_gpu, chosen.use_fsdp) == (
        STARTED[name][1], STARTED[name][0] == "MULTI_GPU", name == "gpu8_fsdp")  # fmt: skip
    if chosen.use_fsdp:
        assert (chosen.fsdp_version, chosen.fsdp_auto_wrap_policy) == (2, "TRANSFORMER_BASED_WRAP")
