"""Frozen panels: the same bytes each time, and one sentence for each way they can be wrong."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from common.envs import ENV_IDS, PanelError, check_env, data_hash, load_panel, make
from common.envs.build import build_all
from common.envs.panels import BUILD, load_catalogue
from common.envs.shop.catalogue import build_catalogue
from common.envs.shop.engine import ShopEnv


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    build_all(folder)
    return folder


@pytest.fixture
def data(built, tmp_path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(built, tmp_path / "data")


def digests(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*.json*")}


def test_building_twice_gives_the_same_bytes(built, tmp_path):
    counts = build_all(tmp_path / "again")
    files = sum(map(len, counts.values())) + len(counts)  # and a manifest each
    assert digests(tmp_path / "again") == digests(built) and len(digests(built)) == files
    build_all(built)  # over itself, too
    assert digests(tmp_path / "again") == digests(built)


def test_counts_manifest_and_files_agree(built):
    for env_id in ("countdown-v1", "shop-v1"):
        manifest = json.loads((built / env_id / "manifest.json").read_text())
        assert manifest["env"] == env_id
        assert {p.name for p in (built / env_id).glob("*.jsonl")} == set(manifest["files"])
        for name, entry in manifest["files"].items():
            blob = (built / env_id / name).read_bytes()
            assert entry == {"rows": blob.count(b"\n"), "sha256": hashlib.sha256(blob).hexdigest()}
    assert len(load_catalogue(built, "shop-v1")) >= 1000
    panels = ("train", "validation", "test", "test_products", "demos")
    assert sum(len(load_panel(built, f"shop-v1/{name}")) for name in panels) >= 1000


def test_tasks_know_their_panel_and_no_id_is_in_two(built):
    for env_id, names in (("countdown-v1", 4), ("shop-v1", 5)):
        files = json.loads((built / env_id / "manifest.json").read_text())["files"]
        panels = [name.removesuffix(".jsonl") for name in files if name != "catalogue.jsonl"]
        ids = [task.id for panel in panels for task in load_panel(built, f"{env_id}/{panel}")]
        assert len(panels) == names and len(set(ids)) == len(ids)
        for panel in panels:
            assert {(task.env, task.split) for task in load_panel(built, f"{env_id}/{panel}")} == {(env_id, panel)}


@pytest.mark.parametrize("env_id", ["countdown-v1", "shop-v1"])
def test_environments_made_from_files_keep_the_contract_on_their_panels(built, env_id):
    env = make(env_id, built)
    assert env.id == env_id
    check_env(env, load_panel(built, f"{env_id}/test")[:5])


def transcript(env: ShopEnv, task) -> list:
    """All that the oracle's episode shows."""
    seen = [env.reset(task), env.prompt(), env.actions()]
    while env.actions():
        action = env.oracle()
        seen += [action, env.step(action), env.value(env.snapshot())]
    return seen


def test_a_shop_from_its_file_equals_the_shop_that_was_built(built):
    """The order of an option's values and of the options is on the page, so writing must keep it."""
    settings = {"page_size": 5, "numbered": True}
    shuffled = [dict(reversed(row.items())) for row in load_catalogue(built, "shop-v1")]
    shops = [ShopEnv(rows, **settings) for rows in (build_catalogue(0), load_catalogue(built, "shop-v1"), shuffled)]
    for task in load_panel(built, "shop-v1/test")[:10]:
        first, *others = [transcript(shop, task) for shop in shops]
        assert all(other == first for other in others)


# -- errors: where, what, and the next step -----------------------------------------------------------------


def refused(call, *patterns: str) -> None:
    with pytest.raises(PanelError) as caught:
        call()
    for pattern in patterns:
        assert pattern in str(caught.value), (pattern, str(caught.value))
    assert "\n" not in str(caught.value)


def test_an_altered_panel_is_refused_with_both_hashes(data):
    path = data / "countdown-v1" / "test.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"target": 1', b'"target": 2', 1))
    found = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    written = json.loads((data / "countdown-v1" / "manifest.json").read_text())["files"]["test.jsonl"]["sha256"][:12]
    refused(lambda: load_panel(data, "countdown-v1/test"), str(path), found, written, "python -m common data")
    assert len(load_panel(data, "countdown-v1/train")) == 600  # the others are whole


def test_a_panel_cut_short_is_refused(data):
    path = data / "countdown-v1" / "test.jsonl"
    path.write_bytes(path.read_bytes()[:-1])
    refused(lambda: load_panel(data, "countdown-v1/test"), str(path), "sha256")


@pytest.mark.parametrize("remove", [True, False], ids=["missing", "empty"])
def test_a_missing_or_empty_panel_is_refused(data, remove):
    path = data / "countdown-v1" / "test.jsonl"
    path.unlink() if remove else path.write_bytes(b"")
    refused(lambda: load_panel(data, "countdown-v1/test"), str(path), "missing or empty", "200 rows", BUILD)


def test_an_unknown_panel_names_the_valid_ones(data):
    refused(lambda: load_panel(data, "countdown-v1/tset"), "countdown-v1/tset", "demos, test, train, validation")
    refused(lambda: load_panel(data, "countdown-v1"), "unknown", "validation")
    refused(lambda: load_panel(data, "countdown-v1/../shop-v1/test"), "unknown")


@pytest.mark.parametrize("read", [lambda d: load_panel(d, "shop-v1/test"), lambda d: data_hash(d, "shop-v1"),
                                  lambda d: make("shop-v1", d)], ids=["panel", "hash", "make"])  # fmt: skip
def test_absent_data_names_the_manifest_and_the_next_step(tmp_path, read):
    refused(lambda: read(tmp_path), str(tmp_path / "shop-v1" / "manifest.json"), "missing", "python -m common data")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"env": "countdown-v1"}'])
def test_a_damaged_manifest_is_named(data, text):
    path = data / "countdown-v1" / "manifest.json"
    path.write_text(text)
    for read in (lambda: load_panel(data, "countdown-v1/test"), lambda: data_hash(data, "countdown-v1")):
        refused(read, str(path), "no manifest", "python -m common data")


def test_a_damaged_catalogue_stops_the_shop(data):
    path = data / "shop-v1" / "catalogue.jsonl"
    path.write_bytes(path.read_bytes() + b"{}\n")
    refused(lambda: make("shop-v1", data), str(path), "sha256")


def test_an_unknown_environment_names_the_valid_ones(built):
    with pytest.raises(ValueError, match="env: 'countdown' is unknown; it must be one of " + ", ".join(ENV_IDS)):
        make("countdown", built)


def test_user_files_that_are_not_there_are_asked_for(built, monkeypatch, tmp_path):
    monkeypatch.delenv("WEBSHOP_DATA", raising=False)
    refused(lambda: load_panel(built, "webshop-1k/test"), "WEBSHOP_DATA")
    refused(lambda: data_hash(built, "webshop-1k"), "WEBSHOP_DATA")
    with pytest.raises((FileNotFoundError, PanelError), match="WEBSHOP_DATA"):
        make("webshop-1k", built)
    monkeypatch.setenv("WEBSHOP_DATA", str(tmp_path))
    refused(lambda: load_panel(built, "webshop-1k/test"), "products_1000.jsonl.xz", str(tmp_path))


def test_the_data_hash_follows_the_data(data):
    before = data_hash(data, "countdown-v1")
    assert before == data_hash(data, "countdown-v1") != data_hash(data, "shop-v1")
    path = data / "countdown-v1" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"]["test.jsonl"]["sha256"] = "0" * 64
    path.write_text(json.dumps(manifest))
    assert data_hash(data, "countdown-v1") != before
