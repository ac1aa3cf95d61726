"""Files of rows that other loaders were reported to break, or to take and fail on later. A line a case."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import pytest

from common.envs import PanelError, load_panel, user_rows
from common.envs.shop import webshop
from common.envs.versions import gsm8k_v1, math500_v1
from tests.envs.rows import anew, gsm8k_rows, math500_rows  # noqa: F401

HELD_OUT = "held-out check"
GSM8K, MATH500 = gsm8k_v1.ENV_ID, math500_v1.ENV_ID
VARIABLE = {GSM8K: "GSM8K_DATA", MATH500: "MATH500_DATA"}
ROWS = {GSM8K: gsm8k_rows(3), MATH500: math500_rows(3)}
TEXT = {GSM8K: "question", MATH500: "problem"}


@pytest.fixture
def supply(tmp_path, monkeypatch):
    """Writes lines as the test split of an environment, below a training split of other rows for GSM8K."""

    def write(env: str, content: bytes) -> Path:
        monkeypatch.setenv(VARIABLE[env], str(tmp_path))
        if env == GSM8K:
            (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in gsm8k_rows(9, 100)))
        (tmp_path / "test.jsonl").write_bytes(content)
        return tmp_path / "test.jsonl"

    return write


def lines(rows: list[dict]) -> str:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


@pytest.mark.parametrize("env", [GSM8K, MATH500])
@pytest.mark.parametrize(
    ("text", "encode", "source"),
    [
        ("a\u2028b", lambda text: text.encode(), "wbolster/jsonlines#53"),
        ("a\u2029b", lambda text: text.encode(), "volcengine/OpenViking#3988"),
        ("a\u0085b", lambda text: text.encode(), "wbolster/jsonlines#53"),
        ("a\x0b\x0cb", lambda text: text.encode(), "hegeldev/hegel-core#25"),
        ("plain", lambda text: text.encode("utf-8-sig"), "wbolster/jsonlines#68"),
        ("a\u2028b", lambda text: text.replace("\n", "\r\n").encode("utf-8-sig"), "volcengine/OpenViking#3988"),
        ("plain", lambda text: ("\n\n" + text + "\n \n").encode(), HELD_OUT),
    ],
)
def test_a_valid_file_is_read_row_by_row(env, supply, text, encode, source):
    """A row is cut in two at a character that JSON allows in a string, or a byte order mark breaks the first row: each case
    names the report."""
    rows = [{**row, TEXT[env]: f"{text} {k}"} for k, row in enumerate(ROWS[env])]
    supply(env, encode(lines(rows)))
    assert [task.data["question"] for task in load_panel("data", f"{env}/test")] == [row[TEXT[env]] for row in rows]


CHANGED = [
    (GSM8K, {"answer": "It is 5."}, "answer is 'It is 5.' but must be a solution that ends with #### and a number"),
    (GSM8K, {"answer": "#### "}, "answer is '#### ' but must be a solution that ends with #### and a number"),
    (GSM8K, {"answer": "#### five"}, "answer is '#### five' but must be a solution that ends with #### and a number"),
    (GSM8K, {"answer": "#### 1/0"}, "answer is '#### 1/0' but must be a solution that ends with #### and a number"),
    (GSM8K, {"answer": 18}, "answer is 18 but must be a solution that ends with #### and a number"),
    (GSM8K, {"question": ""}, "question is '' but must be text that is not empty"),
    (GSM8K, {"question": " \n"}, r"question is ' \\n' but must be text that is not empty"),
    (GSM8K, {"question": 7}, "question is 7 but must be text that is not empty"),
    (GSM8K, {"question": None}, "question is None but must be text that is not empty"),
    (GSM8K, {"question": "\ud800"}, r"question is '\\ud800' but must be text that is not empty"),
    (MATH500, {"problem": 5}, "problem is 5 but must be text that is not empty"),
    (MATH500, {"answer": 5}, "answer is 5 but must be text that declares an answer"),
    (MATH500, {"answer": ""}, "answer is '' but must be text that declares an answer"),
    (MATH500, {"answer": "$"}, r"answer is '\$' but must be text that declares an answer"),
    (MATH500, {"level": 2.5}, "level is 2.5 but must be a whole number or text"),
    (MATH500, {"level": True}, "level is True but must be a whole number or text"),
    (MATH500, {"subject": ["Algebra"]}, r"subject is \['Algebra'\] but must be text that is not empty"),
]


@pytest.mark.parametrize(("env", "change", "words"), CHANGED)
def test_a_value_that_breaks_a_rule_is_named_when_it_is_loaded(env, supply, change, words):
    """Rows without an answer, or with a number for text, are loaded and fail in training. source: held-out check."""
    rows = [*ROWS[env][:1], {**ROWS[env][1], **change}, *ROWS[env][2:]]
    path = supply(env, "\n".join(map(json.dumps, rows)).encode())
    with pytest.raises(PanelError, match=f"{env}: {path} line 2: {words}; correct it or fetch the file anew$"):
        load_panel("data", f"{env}/test")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has no row but must hold GSM8K's JSON lines with question and answer; fetch it anew"),
        (b"\n \n", "has no row but must hold GSM8K's JSON lines with question and answer; fetch it anew"),
        (b'\n{"question": "a', r"line 2 is not JSON \(.*\) but must be a JSON object with question, answer; correct the line or fetch"),
        (b"[1, 2]\n", r"line 1 is \[1, 2\] but must be a JSON object with question, answer; correct the line or fetch the file anew"),
        (b"\xff\xfe\n", "is not UTF-8 .* but must be; save it as UTF-8 or fetch it anew"),
        (b"[" * 5000, "line 1 is not JSON"),
    ],
)
def test_a_file_that_is_none_of_rows_is_named(supply, content, words):
    """A damaged file ends in a traceback of the reader. source: held-out check."""
    path = supply(GSM8K, content)
    with pytest.raises(PanelError, match=f"{path} {words}"):
        load_panel("data", f"{GSM8K}/test")


def test_rows_of_the_hub_are_checked_too(monkeypatch):
    """A mirror of a data set holds other rows than the official one. source: held-out check."""
    monkeypatch.delenv("GSM8K_DATA", raising=False)
    monkeypatch.setattr("common.envs.user_rows.hub_answers", lambda: True)
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: [*gsm8k_rows(2), {"question": "?", "answer": "18"}])
    with pytest.raises(PanelError, match="openai/gsm8k train row 3: answer is '18' but must be a solution"):
        load_panel("data", f"{GSM8K}/test")


def test_files_of_the_shop_may_begin_with_a_byte_order_mark(tmp_path):
    """A byte order mark breaks the first row. source: wbolster/jsonlines#68"""
    (tmp_path / webshop.ITEMS_FILE).write_text("{}", encoding="utf-8-sig")
    with lzma.open(tmp_path / webshop.PRODUCTS_FILE, "wt", encoding="utf-8-sig") as file:
        file.write('{"name": "a\u2028b"}\n{}')
    assert webshop._parse(tmp_path / webshop.ITEMS_FILE) == {}
    assert webshop._parse(tmp_path / webshop.PRODUCTS_FILE) == [{"name": "a\u2028b"}, {}]
