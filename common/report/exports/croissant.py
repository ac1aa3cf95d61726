"""Croissant metadata of the data panels: columns, types and hashes of each file, as ``mlcroissant`` loads them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

FIELDS = {"id": "the task's name, the same in every result", "env": "the environment, with its version",
          "split": "the panel", "data": "what the environment needs to reset to this task"}  # fmt: skip
NUMBERS = {bool: "BOOL", int: "INTEGER", float: "FLOAT"}


def croissant(folder: Path, *, license: str, version: str, published: datetime, cite: str) -> dict[str, Any]:
    """Metadata (JSON-LD, for a file beside the panels) of one environment's ``folder`` with its ``manifest.json``.

    A file object for each panel with the manifest's hash, and a record set of the same name with a field for every
    column. ``data`` is taken apart, ``data/numbers`` for example; a map whose keys differ from row to row (a product's
    options) is in the file and has no field. ``license`` is a URL. Raises mlcroissant's ValidationError when the
    library finds an error in its input.
    """
    import mlcroissant as mlc

    env = folder.name
    files, records = [], []
    for name, entry in sorted(json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"].items()):
        stem = name.removesuffix(".jsonl")
        rows = [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]
        files.append(mlc.FileObject(
            id=name, name=name, description=f"{len(rows)} rows, one JSON object a line", content_url=name,
            encoding_formats=["application/jsonlines"], sha256=entry["sha256"]))  # fmt: skip
        records.append(mlc.RecordSet(
            id=stem, name=stem, description=f"the panel {env}/{stem}", fields=_fields(stem, rows)))  # fmt: skip
    metadata = mlc.Metadata(
        name=env, description=f"Frozen task panels of the environment {env}, made by a program; a changed panel has "
        "another name.", license=[license], version=version, date_published=published, cite_as=cite, distribution=files,
        record_sets=records)  # fmt: skip
    return metadata.to_json()


def _fields(stem: str, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """A field for every column of all rows, and for every key of their ``data`` whose values are no mappings."""
    import mlcroissant as mlc

    columns: dict[tuple[str, ...], list[Any]] = {}
    for row in rows:
        for column, value in row.items():
            inner = {(column, key): one for key, one in value.items()} if column == "data" else {(column,): value}
            for path, one in inner.items():
                columns.setdefault(path, []).append(one)
    made = []
    for path, values in columns.items():
        repeated = any(isinstance(value, list) for value in values)
        flat = [one for value in values for one in (value if isinstance(value, list) else [value]) if one is not None]
        if not flat or any(isinstance(one, (dict, list)) for one in flat):
            continue
        steps = [mlc.Transform(json_path=f"$.{key}") for key in path[1:]]
        source = mlc.Source(file_object=f"{stem}.jsonl", extract=mlc.Extract(column=path[0]), transforms=steps)
        made.append(mlc.Field(
            id="/".join((stem, *path)), name="/".join(path), description=FIELDS.get(path[0], path[0]), source=source,
            data_types=[getattr(mlc.DataType, _type(flat))], repeated=repeated or None))  # fmt: skip
    return made


def _type(values: Sequence[Any]) -> str:
    """Name of mlcroissant's type that holds all values: whole numbers beside others are floats, all else is text."""
    kinds = {type(value) for value in values}
    return NUMBERS.get(float if kinds == {int, float} else kinds.pop(), "TEXT") if kinds <= set(NUMBERS) else "TEXT"
