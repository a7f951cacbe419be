from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import pytest

from release_kit.datasets.records import WRITERS, Record, read_records, write_records
from release_kit.errors import UnusableInput

SECRET = "jane.roe@planted.example"


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def fields_of(path: Path) -> list[dict[str, Any]]:
    return [dict(record.fields) for record in read_records(path)]


def test_jsonl_keeps_order_types_and_numbers_records(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", b'{"b": 1, "a": [null, true, 2.5, {"c": "\xc3\xa9"}]}\n{}')
    records = list(read_records(path))
    assert [(record.index, record.source) for record in records] == [
        (1, str(path)),
        (2, str(path)),
    ]
    assert list(records[0].fields.items()) == [("b", 1), ("a", [None, True, 2.5, {"c": "é"}])]


def test_csv_keeps_order_and_numbers_records(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", b'b,a\n"x, ""y""",\n1,2\n')
    assert fields_of(path) == [{"b": 'x, "y"', "a": ""}, {"b": "1", "a": "2"}]
    assert [record.index for record in read_records(path)] == [1, 2]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("bom.jsonl", b'\xef\xbb\xbf{"a": "1"}\n', {"a": "1"}),
        ("bom.csv", b"\xef\xbb\xbfa\n1\n", {"a": "1"}),
        ("crlf.jsonl", b'{"a": "1"}\r\n', {"a": "1"}),
        ("crlf.csv", b'a,b\r\n"1\r\n2",3\r\n', {"a": "1\r\n2", "b": "3"}),
        ("nul.jsonl", b'{"a": "1\\u00002"}\n', {"a": "1\x002"}),
        ("nul.csv", b"a,b\n1\x002,3\n", {"a": "1\x002", "b": "3"}),
        ("surrogate.jsonl", b'{"a": "\\ud83d"}\n', {"a": "\ud83d"}),
        ("separator.jsonl", '{"a": "1\u2028\x852"}\n'.encode(), {"a": "1\u2028\x852"}),
        ("long.csv", b"a,b\n" + b"x" * 150_000 + b",y\n", {"a": "x" * 150_000, "b": "y"}),
        ("deep.jsonl", b'{"a":' + b"[" * 63 + b"]" * 63 + b"}\n", None),
        ("upper.JSONL", b'{"a": "1"}\n', {"a": "1"}),
    ],
)
def test_unusual_but_right_files_are_read_and_survive_writing(
    tmp_path: Path, name: str, content: bytes, expected: dict[str, Any] | None
) -> None:
    limit = csv.field_size_limit()
    read = fields_of(write(tmp_path, name, content))
    assert len(read) == 1
    assert expected is None or read == [expected]
    again = tmp_path / f"again-{name}"
    write_records(again, read_records(tmp_path / name))
    assert fields_of(again) == read
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize(
    ("name", "content", "line", "says"),
    [
        ("broken.jsonl", b'{"a": 1}\n{"a": "%s"\n', 2, "is not JSON"),
        ("text.jsonl", b'{"a": 1}\n%s\n', 2, "is not JSON"),
        ("escape.jsonl", b'{"a": "\\x%s"}\n', 1, "is not JSON"),
        ("list.jsonl", b'{"a": 1}\n{"a": 2}\n["%s"]\n', 3, "not a JSON object"),
        ("string.jsonl", b'"%s"\n', 1, "not a JSON object"),
        ("blank.jsonl", b'{"a": "%s"}\n\n{"a": 1}\n', 2, "is not JSON"),
        ("utf8.jsonl", b'{"a": 1}\n{"a": "%s\xff"}\n', 2, "not UTF-8"),
        ("raw-surrogate.jsonl", b'{"a": "%s\xed\xa0\xbd"}\n', 1, "not UTF-8"),
        ("twice.jsonl", b'{"%s": 1, "%s": 2}\n', 1, "a key stands twice"),
        ("twice-inside.jsonl", b'{"a": [{"%s": 1, "%s": 2}]}\n', 1, "a key stands twice"),
        ("nan.jsonl", b'{"%s": NaN}\n', 1, "NaN"),
        ("infinity.jsonl", b'{"%s": -Infinity}\n', 1, "NaN and infinities"),
        ("huge.jsonl", b'{"%s": 1e999}\n', 1, "too large"),
        ("digits.jsonl", b'{"%s": ' + b"9" * 5000 + b"}\n", 1, "too large"),
        ("deep.jsonl", b'{"%s":' + b"[" * 64 + b"]" * 64 + b"}\n", 1, "nested deeper"),
        ("deepest.jsonl", b'{"%s":' + b"[" * 9999 + b"]" * 9999 + b"}\n", 1, "nested deeper"),
        ("many.csv", b"a,b\n1,2\n1,%s,3\n", 3, "3 cells where the header has 2"),
        ("few.csv", b'a,b\n"1\n1",2\n%s\n', 4, "1 cells where the header has 2"),
        ("empty-line.csv", b"a,%s\n1,2\n\n", 3, "0 cells"),
        ("quote.csv", b'a,b\n1,2\n"%s,2\n3,4\n', 3, "is not CSV"),
        ("after-quote.csv", b'a,b\n"%s"x,2\n', 2, "is not CSV"),
        ("utf8.csv", b"a,b\n%s,\xff\n", 2, "not UTF-8"),
        ("twice.csv", b"%s,%s\n1,2\n", 1, "the same name"),
        ("nameless.csv", b"%s,\n1,2\n", 1, "no column 2"),
        ("empty.jsonl", b"", 0, "holds no records"),
        ("empty.csv", b"", 0, "holds no records"),
        ("bom-only.jsonl", b"\xef\xbb\xbf", 0, "holds no records"),
        ("header-only.csv", b"a,%s\n", 0, "holds no records"),
    ],
)
def test_a_wrong_file_is_an_error_at_its_line_that_quotes_nothing(
    tmp_path: Path, name: str, content: bytes, line: int, says: str
) -> None:
    path = write(tmp_path, name, content.replace(b"%s", SECRET.encode()))
    with pytest.raises(UnusableInput) as caught:
        list(read_records(path))
    (problem,) = caught.value.problems
    assert (problem.path, problem.line) == (str(path), line)
    assert says in problem.message
    chain: BaseException | None = caught.value
    while chain is not None:
        assert SECRET not in f"{chain} {chain!r} {vars(chain)}"
        chain = chain.__context__


def test_a_missing_file_and_an_unknown_suffix_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UnusableInput, match="cannot be used") as caught:
        list(read_records(tmp_path / "none.jsonl"))
    assert "no such file" in str(caught.value.problems[0])
    with pytest.raises(UnusableInput, match=r"'\.xls'") as caught:
        read_records(tmp_path / "data.xls")  # at once, before anything is read
    assert ".jsonl" in caught.value.hint
    for name in ("data", "data.parquet"):
        with pytest.raises(UnusableInput, match="cannot be written"):
            write_records(tmp_path / name, [Record({"a": 1}, "test", 1)])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b'[{"a": "1"}, {"a": "2"}]'),
        ("one.ndjson.gz", gzip.compress(b'{"a": "1"}\n{"a": "2"}\n')),
        ("a.tsv", b"a\n1\n2\n"),
        ("a.csv", b"a\r1\r2"),
        ("text.txt", b"1\n2"),
    ],
)
def test_every_format_gives_records(tmp_path: Path, name: str, content: bytes) -> None:
    records = list(read_records(write(tmp_path, name, content)))
    key = "text" if name == "text.txt" else "a"
    assert [(dict(record.fields), record.index) for record in records] == [
        ({key: "1"}, 1), ({key: "2"}, 2)
    ]  # fmt: skip


def test_the_column_of_a_mistake_is_told(tmp_path: Path) -> None:
    for content, column in ((b'{"a": 1, "a": 2}\n', 10), (b'{"a": [NaN]}', 8), (b'{"a" 1}', 6)):
        with pytest.raises(UnusableInput) as caught:
            list(read_records(write(tmp_path, "a.jsonl", content)))
        assert caught.value.problems[0].column == column


def test_reading_streams_and_stops_where_the_mistake_is(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", b'{"a": 1}\n{"a": 2}\nbroken\n')
    records = read_records(path)
    assert [next(records).fields["a"], next(records).fields["a"]] == [1, 2]
    with pytest.raises(UnusableInput):
        next(records)


@pytest.mark.parametrize("suffix", WRITERS)
def test_equal_records_give_equal_bytes(tmp_path: Path, suffix: str) -> None:
    records = [Record({"b": "é\r\n", "a": ' "x", '}, "s", 1), Record({"b": "\r", "a": ""}, "s", 2)]
    one, two = tmp_path / f"one{suffix}", tmp_path / f"two{suffix}"
    assert write_records(one, records) == write_records(two, iter(records)) == 2
    assert one.read_bytes() == two.read_bytes()
    assert fields_of(one) == [dict(record.fields) for record in records]


def test_jsonl_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_records(path, [Record({"b": "é", "a": 1.5}, "s", 1), Record({"a": "\udc80"}, "s", 2)])
    assert path.read_bytes() == '{"b": "é", "a": 1.5}\n{"a": "\\udc80"}\n'.encode()


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", b"old")
    broken = write(tmp_path, "broken.jsonl", b'{"a": 1}\nbroken\n')
    with pytest.raises(UnusableInput):
        write_records(path, read_records(broken))
    with pytest.raises(UnusableInput, match="no records"):
        write_records(path, [])
    assert path.read_bytes() == b"old"
    assert sorted(tmp_path.iterdir()) == [path, broken]


@pytest.mark.parametrize(
    "second",
    [{"a": "x", "c": "y"}, {"a": "x"}, {"b": "y", "a": "x"}, {"a": SECRET, "b": 1}],
)
def test_csv_refuses_what_it_cannot_hold(tmp_path: Path, second: dict[str, Any]) -> None:
    records = [Record({"a": "1", "b": "2"}, "s", 1), Record(second, "s", 2)]
    with pytest.raises(UnusableInput, match="record 2") as caught:
        write_records(tmp_path / "a.csv", records)
    assert SECRET not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_csv_refuses_a_lone_surrogate(tmp_path: Path) -> None:
    with pytest.raises(UnusableInput, match="surrogate"):
        write_records(tmp_path / "a.csv", [Record({"a": "\ud83d"}, "s", 1)])


def test_the_repr_of_a_record_is_not_its_data() -> None:
    assert SECRET not in repr(Record({"a": SECRET}, "s", 1))
