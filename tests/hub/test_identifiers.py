"""What people paste, and what it names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paperworks.hub.identifiers import parse_arxiv, parse_reference


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2301.13838", ("arxiv", "2301.13838", None)),
        (" arXiv:2301.13838v2 ", ("arxiv", "2301.13838", 2)),
        ("arXiv: 2301.13838", ("arxiv", "2301.13838", None)),
        ("https://arxiv.org/abs/2301.13838v2", ("arxiv", "2301.13838", 2)),
        ("http://www.arxiv.org/pdf/2301.13838v2.pdf#page=3", ("arxiv", "2301.13838", 2)),
        ("arxiv.org/abs/2301.13838", ("arxiv", "2301.13838", None)),
        ("https://arxiv.org/html/2301.13838", ("arxiv", "2301.13838", None)),
        ("https://export.arxiv.org/abs/cs/0701001v1", ("arxiv", "cs/0701001", 1)),
        ("https://huggingface.co/papers/2301.13838", ("arxiv", "2301.13838", None)),
        ("https://www.alphaxiv.org/overview/2301.13838v1", ("arxiv", "2301.13838", 1)),
        ("math.GT/0309136", ("arxiv", "math/0309136", None)),
        ("hep-th/9901001v3", ("arxiv", "hep-th/9901001", 3)),
        ("0704.0001", ("arxiv", "0704.0001", None)),
        ("https://doi.org/10.48550/arXiv.2301.13838", ("arxiv", "2301.13838", None)),
        ("10.48550/ARXIV.2301.13838v2", ("arxiv", "2301.13838", 2)),
        ("doi:10.1145/3292500.3330701.", ("doi", "10.1145/3292500.3330701", None)),
        ("https://dx.doi.org/10.1016/0092-8674(94)90531-2", ("doi", "10.1016/0092-8674(94)90531-2", None)),
        ("10.1000/ABC)", ("doi", "10.1000/abc", None)),
        ("https://openreview.net/forum?id=rJ4km2R5t7", ("openreview", "rJ4km2R5t7", None)),
        ("https://openreview.net/pdf?id=rJ4km2R5t7", ("openreview", "rJ4km2R5t7", None)),
        ("openreview:rJ4km2R5t7", ("openreview", "rJ4km2R5t7", None)),
        ("https://aclanthology.org/2023.acl-long.12.pdf", ("acl", "2023.acl-long.12", None)),
        ("https://aclanthology.org/P19-1001/", ("acl", "P19-1001", None)),
        ("acl:P19-1001", ("acl", "P19-1001", None)),
    ],
)
def test_a_reference_has_one_spelling(text, expected):
    assert parse_reference(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "pruning", "2313.00001", "2301.1383", "1301.13838", "0703.0001", "3.14159", "10.1000", "2301.13838v0", "cs/9913001", "xx/0701001", "https://example.org/2301.13838",
     "https://arxiv.org/list/cs.LG/new", "https://evil.org/arxiv.org/abs/2301.13838", "https://arxiv.org.evil.org/abs/2301.13838", "https://huggingface.co/datasets/2301.13838",
     "two words 2301.13838", "https://[", "https://openreview.net/forum?id=../../x", "٢٣٠١.١٣٨٣٨", "a" * 5000]
)  # fmt: skip
def test_other_texts_name_nothing(text):
    assert parse_reference(text) is None


@given(st.text(max_size=80) | st.text(alphabet="arxiv:/.0123456789vhttpsdoi", max_size=40))
def test_any_text_is_read_without_an_error_and_reading_again_changes_nothing(text):
    found = parse_reference(text)
    if found is not None:
        assert parse_reference(f"{found.scheme}:{found.value}") == (found.scheme, found.value, None)


@given(st.integers(7, 99), st.integers(1, 12), st.integers(1, 9999), st.integers(1, 20))
def test_every_id_that_arxiv_could_give_is_known(year, month, number, version):
    if (year, month) < (7, 4):
        return
    value = f"{year:02d}{month:02d}.{number:0{4 if year < 15 else 5}d}"
    assert parse_arxiv(f"{value}v{version}") == ("arxiv", value, version)
