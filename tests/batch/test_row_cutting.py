"""Files cut by rows: nothing is lost, doubled or torn, wherever chunks and quotes fall."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.batch.cutting import MiniBatch
from headgate.batch.row_cutting import Position, RowCutter, RowEnds
from headgate_contracts.errors import HeadgateError
from headgate_contracts.mini_batches import FilePart


def cut(rows: int, files: dict[str, bytes], chunk: int = 7) -> list[MiniBatch]:
    cutter, made = RowCutter(rows), list[MiniBatch]()
    for path, content in files.items():
        cutter.begin(FilePart(path=path, size_bytes=len(content)))
        for start in range(0, len(content), chunk):
            made += cutter.add(content[start : start + chunk])
        made += cutter.end()
    return [*made, *cutter.rest()]


def seen(part: FilePart, content: bytes) -> bytes:
    """What the script finds in its copy."""
    return content[: part.head] + content[part.start : part.end]


def test_each_slice_of_a_table_has_the_header_and_whole_rows() -> None:
    table = b'name,said\na,"one\ntwo"\nb,x\n\nc,"say ""hi""\n"\nd,5" pipe\ne,last'
    made = cut(2, {"t.csv": table})
    assert [each.items for each in made] == [2, 2, 1]
    texts = [seen(each.files[0], table) for each in made]
    assert texts == [
        b'name,said\na,"one\ntwo"\nb,x\n',
        b'name,said\n\nc,"say ""hi""\n"\nd,5" pipe\n',
        b"name,said\ne,last",
    ]


def test_lines_have_no_header_and_quotes_mean_nothing() -> None:
    lines = b'{"a": "x"}\r\n\r\n{"a": "\\""}\n{"a": 3}\n   \n'
    made = cut(1, {"t.jsonl": lines})
    assert [json.loads(seen(each.files[0], lines)) for each in made] == [
        {"a": "x"},
        {"a": '"'},
        {"a": 3},
    ]


def test_rows_of_several_files_share_a_mini_batch() -> None:
    files = {f"{n}.ndjson": b"1\n2\n3\n" for n in range(3)} | {"empty.csv": b"", "h.csv": b"a,b\n"}
    made = cut(4, files)
    assert [[(p.path, p.start, p.end) for p in each.files] for each in made] == [
        [("0.ndjson", 0, 6), ("1.ndjson", 0, 2)],
        [("1.ndjson", 2, 6), ("2.ndjson", 0, 4)],
        [("2.ndjson", 4, 6)],
    ]
    assert [each.items for each in made] == [4, 4, 1]


def test_other_files_are_refused_by_name() -> None:
    with pytest.raises(HeadgateError, match=r"'p\.parquet' cannot be cut by rows"):
        cut(1, {"p.parquet": b"x"})


CELLS = st.lists(
    st.lists(st.text('ab,;"\n é', max_size=6), min_size=2, max_size=2), min_size=1, max_size=20
)


@given(CELLS, st.integers(1, 7), st.integers(1, 40), st.sampled_from(["\n", "\r\n"]))
def test_slices_read_one_by_one_are_the_table(
    cells: list[list[str]], rows: int, chunk: int, end: str
) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator=end).writerows([["head", "er"], *cells])
    content = text.getvalue().encode()
    read: list[list[str]] = []
    for each in cut(rows, {"t.csv": content}, chunk):
        (part,) = each.files
        copy = io.StringIO(seen(part, content).decode(), newline="")
        head, *found = list(csv.reader(copy))
        assert head == ["head", "er"] and len(found) == each.items <= rows
        read += found
    assert read == cells


@given(CELLS, st.integers(1, 5), st.integers(1, 9), st.data())
def test_a_listing_goes_on_behind_any_slice(
    cells: list[list[str]], rows: int, chunk: int, data: st.DataObject
) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([["head", "er"], *cells])
    content = text.getvalue().encode()
    made = cut(rows, {"t.csv": content}, chunk)
    number = data.draw(st.integers(0, len(made) - 1))
    last = made[number].files[-1]
    cutter = RowCutter(rows)
    cutter.begin(last.model_copy(update={"start": 0, "end": None, "head": 0}),
                 Position(last.end or 0, last.head))  # fmt: skip
    again = [*cutter.add(content[last.end :]), *cutter.end(), *cutter.rest()]
    assert again == made[number + 1 :]


@given(st.lists(st.sampled_from(['"', '""', "\n", "a", ",", " "]), max_size=30).map("".join))
def test_where_chunks_fall_means_nothing(text: str) -> None:
    raw = text.encode()
    whole, torn = RowEnds(has_quotes=True), RowEnds(has_quotes=True)
    one = [*whole.feed(raw), *whole.rest()]
    other = [end for n in range(len(raw)) for end in torn.feed(raw[n : n + 1])]
    assert one == [*other, *torn.rest()]
