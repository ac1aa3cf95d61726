"""What a published table says of the base model behind it."""

from common.sweep import sources
from common.sweep.unit import folder_hash


def test_weights_that_two_keys_made_are_told_by_the_present_one(tmp_path, monkeypatch):
    for key in ("aaa", "bbb", "ccc"):
        folder = tmp_path / "runs" / "base" / f"toy-v1-cpu-{key}"
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"other" if key == "ccc" else b"same")
    weights = folder_hash(folder.with_name("toy-v1-cpu-aaa"))
    for present, told in (("bbb", "bbb"), ("aaa", "aaa"), ("ccc", "aaa")):
        monkeypatch.setattr(sources, "base_key", lambda *_, key=present: key)
        assert sources._base(tmp_path, "toy-v1", "cpu", weights) == told
    assert sources._base(tmp_path, "toy-v1", "cpu", "0" * 64) == sources.WEIGHTS + "0" * 64
    assert sources._base(tmp_path, "toy-v1", "cpu", "") == ""
