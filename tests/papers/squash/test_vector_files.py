"""Files of vectors and of attributes, as people have them."""

from __future__ import annotations

import gzip
import json
import lzma

import numpy as np
import pytest

from paperworks.errors import InputError
from paperworks.papers.squash.attributes import AttributeTable
from paperworks.papers.squash.vector_files import read_attributes, read_vectors

X = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)


def vecs(array: np.ndarray) -> bytes:
    return b"".join(np.int32(array.shape[1]).tobytes() + row.tobytes() for row in array)


def test_arrays_are_mapped_and_not_read(tmp_path):
    np.save(tmp_path / "x.npy", X.astype(np.float16))
    (tmp_path / "x.fvecs").write_bytes(vecs(X))
    (tmp_path / "x.bvecs").write_bytes(vecs(np.arange(12, dtype=np.uint8).reshape(3, 4)))
    half, single, small = (read_vectors(tmp_path / name) for name in ("x.npy", "x.fvecs", "x.bvecs"))
    assert isinstance(half, np.memmap)
    assert isinstance(single, np.memmap)
    np.testing.assert_array_equal(half, X.astype(np.float16))
    np.testing.assert_array_equal(single, X)
    np.testing.assert_array_equal(small, np.arange(12).reshape(3, 4))


def test_tables_hold_vectors_in_a_column(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"id": range(7), "vector": X.tolist()}), tmp_path / "x.parquet")
    np.testing.assert_array_equal(read_vectors(tmp_path / "x.parquet"), X)
    lines = "\n".join(json.dumps({"e": row.tolist(), "year": i}) for i, row in enumerate(X))
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    np.testing.assert_array_equal(read_vectors(tmp_path / "x.jsonl.gz", column="e"), X)
    with pytest.raises(InputError, match="say which one"):
        read_vectors(tmp_path / "x.jsonl.gz")
    with pytest.raises(InputError, match="no column 'f'"):
        read_vectors(tmp_path / "x.jsonl.gz", column="f")
    fixed = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(X.ravel()), 5)
    parquet.write_table(pyarrow.table({"embedding": fixed}), tmp_path / "fixed.parquet")
    np.testing.assert_array_equal(read_vectors(tmp_path / "fixed.parquet"), X)


def test_attributes_leave_out_what_is_none(tmp_path):
    records = [
        {"year": 2020, "tags": ["a"], "e": [0.5, 1.5], "meta": {"x": 1}},
        {"year": None, "tags": [], "e": [1.0, 2.0]},
    ]
    (tmp_path / "a.jsonl.xz").write_bytes(lzma.compress("\n".join(map(json.dumps, records)).encode()))
    assert AttributeTable.from_data(read_attributes(tmp_path / "a.jsonl.xz")).types == {"year": "int", "tags": "labels"}
    assert list(read_attributes(tmp_path / "a.jsonl.xz", ["tags"])) == ["tags"]
    (tmp_path / "a.json").write_text(json.dumps(records))
    assert AttributeTable.from_data(read_attributes(tmp_path / "a.json")).names == ["year", "tags"]
    (tmp_path / "a.csv").write_text("year,price,name\n2020,1.5,x\n,2,\n")
    table = AttributeTable.from_data(read_attributes(tmp_path / "a.csv"))
    assert table.values([0, 1]) == {"year": [2020, None], "price": [1.5, 2.0], "name": ["x", None]}
    with pytest.raises(InputError, match=r"no column \['month'\]"):
        read_attributes(tmp_path / "a.csv", ["month"])


def test_parquet_keeps_types(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {
        "n": [1, None],
        "tags": [["a"], None],
        "v": [[0.5], [1.5]],
        "when": np.array(["2024-01-01", "2024-01-02"], "M8[s]"),
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    assert AttributeTable.from_data(read_attributes(tmp_path / "a.parquet")).types == {
        "n": "int",
        "tags": "labels",
        "when": "datetime",
    }


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.fvecs", vecs(X)[:-3], "no whole number"),
        ("x.fvecs", b"", "empty"),
        ("x.fvecs", vecs(X[:1]) + vecs(X[:1, :4]) + bytes(4), "dimensions in one file"),
        ("x.npy", b"not an array", "cannot be read"),
        ("x.xyz", b"1", "not .xyz"),
        ("x.jsonl", b'{"vector": [1, 2]}\n{"vector": [1]}\n', "one length"),
        ("x.jsonl", b'{"vector": [1, 2]}\nnonsense\n', "line 2"),
        ("x.jsonl", b"[1, 2]\n", "expected an object"),
        ("x.parquet", b"PAR", "Parquet"),
    ],
)
def test_files_that_hold_no_vectors_are_named_with_the_reason(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says):
        read_vectors(tmp_path / name)


def test_arrays_of_another_shape_and_missing_files_are_refused(tmp_path):
    np.save(tmp_path / "flat.npy", np.arange(3))
    with pytest.raises(InputError, match=r"shape \(n, d\)"):
        read_vectors(tmp_path / "flat.npy")
    with pytest.raises(InputError, match="no file"):
        read_vectors(tmp_path / "none.npy")
    (tmp_path / "ragged.csv").write_text("a,b\n1,2\n3\n")
    with pytest.raises(InputError, match="row 3: 1 cells"):
        read_attributes(tmp_path / "ragged.csv")
