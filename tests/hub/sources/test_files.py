"""Papers from files of every format, and from what people take for such files."""

from __future__ import annotations

import gzip
import io
import json
import lzma

import pytest
from fake_service import Reply
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from paperworks.config import SourceSettings
from paperworks.errors import InputError, SourceError
from paperworks.hub.sources import open_source
from paperworks.hub.sources.files import FORMATS, FileSource, from_object, moment
from paperworks.hub.sources.http import PoliteClient


def read(source, cursor=None, http=None):
    batches = list(source.fetch(cursor, http or PoliteClient()))
    return [r for b in batches for r in b.records], [r for b in batches for r in b.refused], batches


def from_text(text, format=None):
    return read(FileSource(("-",), format=format, stdin=io.BytesIO(text.encode() if isinstance(text, str) else text)))


ARXIV_DUMP = {
    "id": "2301.13838v2",
    "title": " A\n<b>title</b>",
    "authors": ["Bo Li", "José Peña"],
    "categories": ["cs.LG", "68T05"],
    "abstract": "n<d &amp; so",
    "date": "2026-08-21",
}
HF_DAILY = {
    "id": "2405.14906",
    "title": "AutoCoder",
    "date": "2024-05-27",
    "published": "2024-05-23",
    "upvotes": 7,
    "seen": "2024-06-01T17:07Z",
    "comments": 1,
    "github": "https://github.com/a/b",
}
SNAPSHOT = {
    "id": "0704.0001", "submitter": "S", "authors": "C. Bal, D. Ö", "title": "Old", "comments": "37 pages", "journal-ref": "PRD 76", "doi": "10.1103/X", "categories": "hep-ph cs.LG",
    "license": None, "abstract": "  A text\n", "versions": [{"version": "v1", "created": "Mon, 2 Apr 2007 19:18:42 GMT"}, {"version": "v3", "created": "x"}], "update_date": "2008-11-26",
    "authors_parsed": [["Balázs", "C.", ""], ["Ö", "D.", "Jr."]],
}  # fmt: skip


def test_the_shape_of_arxiv_dumps():
    record = from_object(ARXIV_DUMP)
    assert (record.arxiv, record.version, record.title, record.abstract) == ("2301.13838", 2, "A title", "n<d & so")
    assert (record.authors, record.categories, str(record.announced)) == (
        ("Bo Li", "José Peña"),
        ("cs.LG",),
        "2026-08-21",
    )
    assert record.counters == record.listings == ()


def test_the_shape_of_flat_daily_papers():
    record = from_object(HF_DAILY)
    assert {counter.metric: counter.value for counter in record.counters} == {"upvotes": 7, "comments": 1}
    assert record.counters[0].seen.isoformat() == "2024-06-01T17:07:00+00:00"
    assert (str(record.listings[0].day), str(record.announced), str(record.published)) == (
        "2024-05-27",
        "2024-05-27",
        "2024-05-23",
    )
    assert record.links[0].url == "https://github.com/a/b"


def test_the_shape_of_the_large_snapshot():
    record = from_object(SNAPSHOT)
    assert (record.arxiv, record.version, record.doi) == ("0704.0001", 3, "10.1103/x")
    assert record.authors == ("C. Balázs", "D. Ö Jr.")
    assert (record.comment, record.journal_ref, record.categories) == ("37 pages", "PRD 76", ("hep-ph", "cs.LG"))
    assert (str(record.published), str(record.updated), record.counters) == ("2007-04-02", "2008-11-26", ())


def test_a_record_written_out_comes_back_as_it_was():
    for shape in (ARXIV_DUMP, HF_DAILY, SNAPSHOT):
        record = from_object(shape)
        assert from_object(json.loads(record.model_dump_json())) == record


@pytest.mark.parametrize("packing", ["", ".gz", ".xz"])
def test_jsonl_in_batches_with_a_cursor_that_goes_on(tmp_path, packing):
    lines = [json.dumps(ARXIV_DUMP | {"id": f"2301.{n:05d}"}) for n in range(1, 1201)]
    lines[699] = "{broken"
    lines[700] = ""
    body = "\n".join(lines).encode()
    path = tmp_path / f"papers.jsonl{packing}"
    path.write_bytes({"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}[packing](body))
    records, refused, batches = read(FileSource([path]))
    assert len(records) == 1198
    assert [len(batch.records) + len(batch.refused) for batch in batches] == [500, 500, 199]
    (entry,) = refused
    assert entry.ordinal == 700
    assert entry.reason.startswith("line 700: not JSON")
    assert entry.raw == "{broken"
    rest, again, _ = read(FileSource([path]), batches[0].cursor)
    assert (len(rest), len(again)) == (698, 1)
    assert read(FileSource([path]), batches[-1].cursor)[0] == []
    path.write_bytes(path.read_bytes() + (b"" if packing else b"\n"))
    if not packing:  # another state of the file is read from its start
        assert len(read(FileSource([path]), batches[-1].cursor)[0]) == 1198


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"title": "x"}', "nothing identifies the paper"),
        ('{"id": "hello", "title": "x"}', "id is 'hello'"),
        ('{"id": "2301.13838", "title": 3}', "title: expected a text"),
        ('{"id": "2301.13838", "title": "x", "date": "21.8.2026"}', "date: '21.8.2026' is not a date"),
        ('{"id": "2301.13838", "title": "x", "date": "2026-13-40"}', "date"),
        ('{"id": "2301.13838", "title": "x", "upvotes": 3, "seen": "soon"}', "not a time"),
        ('{"arxiv": "nonsense", "title": "x"}', "arxiv: 'nonsense'"),
        ('{"arxiv": "2301.13838", "title": "x", "version": 0}', "version"),
        (
            '{"arxiv": "2301.13838", "title": "x", "links": [{"kind": "code", "url": "javascript:alert(1)"}]}',
            "links.0.url",
        ),
        ('{"arxiv": "2301.13838", "title": "x", "authors": ["<b></b>"]}', "authors"),
        ('["a", "list"]', "expected an object"),
        ("NaN", "NaN is not JSON"),
        ("[" * 5000, "recursion|not JSON"),
    ],
)
def test_a_refused_line_says_why(line, reason):
    records, refused, _ = from_text(json.dumps(ARXIV_DUMP) + "\n" + line + "\n", "jsonl")
    assert len(records) == 1
    assert [entry.ordinal for entry in refused] == [2]
    import re

    assert re.search(reason, refused[0].reason), refused[0].reason


def test_lines_that_are_not_utf8_or_too_long_are_refused_alone():
    good = json.dumps(ARXIV_DUMP).encode()
    records, refused, _ = from_text(
        b"\xef\xbb\xbf" + good + b"\r\n\xff\xfe\n" + b'{"id": "' + b"x" * 3_000_000 + b'"}\n' + good + b"\n", "jsonl"
    )
    assert len(records) == 2
    assert [(entry.ordinal, entry.reason.split(" (")[0]) for entry in refused] == [
        (2, "line 2: the line is not UTF-8"),
        (3, "line 3: the line is longer than 1024 KiB"),
    ]


def test_a_lone_surrogate_never_reaches_the_store():
    (record,), _, _ = from_text(
        '{"id": "2301.13838", "title": "a\\ud800b", "authors": ["\\udc00x"], "github": "https://x.org/\\ud800"}'
    )
    record.model_dump_json().encode("utf-8")
    assert record.title == "a\ufffdb"


def test_a_json_document_is_a_list_or_a_saved_day():
    assert len(from_text(json.dumps([ARXIV_DUMP, HF_DAILY]), "json")[0]) == 2
    assert len(from_text("[\n" + json.dumps(ARXIV_DUMP, indent=1) + "\n]")[0]) == 1
    assert from_text("1", "json")[0] == []
    records, refused, _ = from_text(json.dumps([ARXIV_DUMP, 3]))
    assert (len(records), refused[0].reason) == (1, "entry 2: expected an object with the facts of a paper, got int")
    for body in ('{"error": "Sorry"}', "[1, ", '"x"'):
        with pytest.raises(SourceError):
            from_text(body, "json")


BIB = r"""
% a library
@string{icml = "Int. Conf. on ML"}
@comment{nothing}
@inproceedings{liu23,
  title = {Image {Shortcut} Squeezing and $\ell_1$: {\'e}tudes},
  author = {Liu, Zhuoran and Pe{\~n}a, Jos{\'e} and others},
  booktitle = icml, year = 2023, month = jul,
  eprint = {2301.13838}, archivePrefix = {arXiv}, primaryClass = {cs.CR}
}
@article{broken, title = {Never closed, author = {X}, year = 2020
@article{doi1, title={By DOI}, author={A and B}, doi={10.1000/ABC}, year={2019}}
@misc{nothing, title={No name}, year={2019}}
"""


def test_bibtex_entry_by_entry():
    records, refused, _ = from_text(BIB)
    assert [record.title for record in records] == [r"Image Shortcut Squeezing and $\ell_1$: études", "By DOI"]
    first, second = records
    assert first.authors == ("Zhuoran Liu", "José Peña")
    assert (first.arxiv, first.journal_ref, str(first.published), first.categories) == (
        "2301.13838",
        "Int. Conf. on ML",
        "2023-07-01",
        ("cs.CR",),
    )
    assert (second.doi, second.authors) == ("10.1000/abc", ("A", "B"))
    assert [entry.reason.split(":")[0] for entry in refused] == ["line 11", "line 13"]
    assert "nothing identifies" in refused[1].reason


RIS = """TY  - JOUR
TI  - First title
AU  - Peña, José
AU  - Li, Bo
PY  - 2020/05/17/
DO  - 10.1000/XYZ
AB  - An abstract.
ER  -

TY  - JOUR
TI  - Never ended
TY  - CONF
TI  - Second
UR  - https://arxiv.org/abs/2301.13838v3
Y1  - 2023
ER  -
"""


def test_ris_entry_by_entry():
    records, refused, _ = from_text(RIS)
    assert [
        (record.title, record.authors, record.doi or record.arxiv, str(record.published)) for record in records
    ] == [
        ("First title", ("José Peña", "Bo Li"), "10.1000/xyz", "2020-05-17"),
        ("Second", (), "2301.13838", "2023-01-01"),
    ]
    assert [entry.reason for entry in refused] == ["line 10: the entry has no end; is a line 'ER  -' missing?"]


def test_csv_with_named_columns():
    text = 'Title;Authors;arXiv ID;Year;Votes;Extra\r\n"A; b";"Peña, José; Li, Bo";2301.13838v2;2023;5;x\r\nNo id;A B;;2023;;\r\nBad;A;2404.09529;soon;;\r\nMany;A;2404.09529;2023;1;x;y\r\n'
    records, refused, _ = from_text(text, "csv")
    (record,) = records
    assert (record.title, record.authors, record.arxiv, record.version) == (
        "A; b",
        ("José Peña", "Bo Li"),
        "2301.13838",
        2,
    )
    assert (str(record.published), record.counters[0].value) == ("2023-01-01", 5)
    assert [entry.reason.split(";")[0] for entry in refused] == [
        "line 3: nothing identifies the paper",
        "line 4: year: 'soon' is not a year like 2026",
        "line 5: the row has 7 cells and the first line names 6",
    ]


def test_a_table_of_votes_brings_counters_alone():
    text = "id,observed_at,upvotes\n2405.14906,2024-06-01T17:07Z,7\n2405.14906,2024-06-02T17:07Z,9\n2405.14908,2024-06-01T17:07Z,x\n2405.14909,2024-06-01T17:07Z,0\n"
    records, refused, _ = from_text(text)
    assert [(record.title, record.arxiv, [counter.value for counter in record.counters]) for record in records] == [
        ("", "2405.14906", [7, 9]),
        ("", "2405.14909", [0]),
    ]
    assert [entry.reason for entry in refused] == [
        "line 4: the observation 'x' at line 4 is not a whole number from 0 on"
    ]


def test_a_csv_that_names_no_paper_is_refused_as_a_whole():
    with pytest.raises(SourceError, match="name one of them id"):
        from_text("a,b\n1,2\n", "csv")


def test_ids_are_asked_for_at_arxiv(service, settings, http):
    from test_arxiv import entry, feed

    service.answer = lambda asked: Reply(
        feed(*(entry(name) for name in asked.query["id_list"].split(",") if name != "2404.99999"))
    )
    text = b"# my list\n2301.13838\n\nnonsense\nhttps://arxiv.org/abs/2404.09529\n2301.13838\n2404.99999\n"
    records, refused, batches = read(FileSource(("-",), settings, stdin=io.BytesIO(text), format="ids"), http=http)
    assert [record.arxiv for record in records] == ["2301.13838", "2404.09529"]
    assert sorted((entry.ordinal, entry.reason[:7]) for entry in refused) == [(4, "line 4:"), (7, "line 7:")]
    assert (len(service.asked), batches[-1].requests) == (1, 1)


@pytest.mark.parametrize(
    ("text", "format"),
    [
        ('\n\n{"id": "2301.13838", "title": "x"}\n', "jsonl"),
        ("@article{a,\n}", "bibtex"),
        ("TY  - JOUR\n", "ris"),
        ("id,title\n", "csv"),
        ("[]", "json"),
        ("", "jsonl"),
        ("doi\ttitle\n", "csv"),
    ],
)
def test_standard_input_is_told_by_its_first_line(text, format):
    source = FileSource(("-",), stdin=io.BytesIO())
    told, lines = source._told(
        "-", iter([(n, line.encode()) for n, line in enumerate(text.splitlines(keepends=True), start=1)])
    )
    assert told == format
    assert b"".join(raw for _, raw in lines) == text.encode()


def test_what_is_no_known_format_is_refused_with_a_sentence():
    with pytest.raises(SourceError, match="none of JSON lines, BibTeX"):
        from_text("Dear editor,\n")


def test_a_damaged_packing_is_an_error_after_what_could_be_read(tmp_path):
    body = b"\n".join(
        json.dumps(ARXIV_DUMP | {"id": f"2301.{n:05d}", "abstract": f"{n * 7919 % 104729} " * 30}).encode()
        for n in range(1, 3001)
    )
    path = tmp_path / "papers.jsonl.gz"
    path.write_bytes(gzip.compress(body)[:-2000])
    walk = FileSource([path]).fetch(None, PoliteClient())
    assert len(next(walk).records) == 500
    with pytest.raises(SourceError, match="breaks off after line"):
        list(walk)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SourceError, match=r"nowhere\.jsonl cannot be opened"):
        read(FileSource([tmp_path / "nowhere.jsonl"]))
    with pytest.raises(SourceError, match="cannot be opened"):
        read(FileSource([tmp_path]))
    with pytest.raises(InputError, match="format"):
        FileSource(["x"], format="docx")
    with pytest.raises(InputError, match="path"):
        open_source("file", {}, SourceSettings())


def test_several_files_in_order_with_one_cursor(tmp_path):
    for name, arxiv in (("a.jsonl", "2301.00001"), ("b.bib", None), ("c.jsonl", "2301.00003")):
        (tmp_path / name).write_text(json.dumps(ARXIV_DUMP | {"id": arxiv}) if arxiv else BIB)
    paths = sorted(tmp_path.iterdir())
    records, _, batches = read(FileSource(paths))
    assert len(records) == 4
    assert [record.arxiv for record in read(FileSource(paths), batches[1].cursor)[0]] == ["2301.00003"]


def test_times_are_read_with_their_zone():
    assert moment("2026-08-21T10:00:00+02:00").isoformat() == "2026-08-21T08:00:00+00:00"
    assert moment("2026-08-21").isoformat() == "2026-08-21T00:00:00+00:00"
    for bad in ("soon", "0001-01-01T00:00:00+23:59", 7, "x" * 100):
        with pytest.raises(ValueError, match=r"not a time|outside"):
            moment(bad)


pieces = st.sampled_from(
    [json.dumps(ARXIV_DUMP), json.dumps(HF_DAILY), BIB, RIS, "id,observed_at,upvotes\n", "2405.1,2024,7\n", "title,doi\n", '"', "\n", "@article{", "}", "TY  - JOUR\n", "ER  - \n",
     "\\", "$", "{", "\x00", "é", "\ufeff", '{"id": "2301.13838", "title": ', "[", "]", ",", "@string{a=", "#"]
)  # fmt: skip


@pytest.mark.parametrize("format", [*(name for name in FORMATS if name != "ids"), None])
@hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.lists(pieces | st.text(max_size=12), max_size=6).map(
        lambda parts: "".join(parts).encode("utf-8", "surrogatepass")
    )
    | st.binary(max_size=120)
)
def test_any_bytes_give_records_refusals_or_a_source_error(format, data):
    if format is None and _told_as_ids(data):
        return  # these would be asked for at arXiv
    try:
        records, refused, batches = from_text(data, format)
    except SourceError:
        return
    for record in records:
        assert record.identifiers
        record.model_dump_json().encode("utf-8")
    assert all(entry.reason for entry in refused)
    assert all(json.loads(batch.cursor)[1] >= 0 for batch in batches)


def _told_as_ids(data):
    lines = iter(enumerate(io.BytesIO(data), start=1))
    try:
        return FileSource(("-",))._told("-", lines)[0] == "ids"
    except SourceError:
        return False


def test_the_real_daily_papers_are_read_whole(shared_data):
    path = shared_data / "hf_daily" / "papers.jsonl"
    records, refused, _ = read(FileSource([path]))
    assert (len(records), refused) == (13_610, [])
    votes, refused, _ = read(FileSource([shared_data / "hf_daily" / "votes.csv.gz"]))
    assert sum(len(record.counters) for record in votes) == 32_234
    assert refused == []
