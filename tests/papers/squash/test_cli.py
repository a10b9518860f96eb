"""The commands, from files to answers, say what the library says."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from paperworks.errors import InputError, PaperworksError
from paperworks.papers.squash.cli import app
from paperworks.papers.squash.filters import Attr
from paperworks.papers.squash.index import SquashIndex

N, D = 500, 24


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Vectors, attributes, queries in files, and an index built from them by the command."""
    folder = tmp_path_factory.mktemp("squash")
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(N, D)).astype(np.float32)
    np.save(folder / "x.npy", vectors)
    np.save(folder / "q.npy", vectors[:20] + 0.1 * rng.normal(size=(20, D)).astype(np.float32))
    years = rng.integers(2000, 2025, N)
    records = [
        {"id": 1000 + i, "year": int(years[i]), "day": f"{years[i]}-01-0{1 + i % 9}", "tags": ["a", "b"][: i % 3]}
        for i in range(N)
    ]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    done = run(
        "build", folder / "x.npy", folder / "idx", "-a", folder / "a.jsonl", "--ids", "id", "--type", "day=datetime"
    )
    assert done.exit_code == 0, done.output
    return folder


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_build_keeps_ids_and_types_and_says_the_size(world):
    index = SquashIndex.load(world / "idx")
    assert len(index) == N
    assert index.metadata([1003])["tags"] == [[]]
    assert index.metadata([1003])["day"][0].dtype == "datetime64[D]"
    assert "id" not in index.metadata([1003])


def test_search_prints_what_the_library_finds(world):
    index = SquashIndex.load(world / "idx")
    text = "2010 <= year and 'a' in tags and not day >= '2020-01-01'"
    wanted = (Attr("year") >= 2010) & Attr("tags").contains("a") & (Attr("day") < "2020-01-01")
    done = run("search", world / "idx", world / "q.npy", "-k", 4, "-f", text, "--show", "--exact")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    distances, ids = index.search(np.load(world / "q.npy"), k=4, filter=wanted, exact=True)
    assert [line["ids"] for line in lines] == ids.tolist()
    np.testing.assert_allclose([line["distances"] for line in lines], distances)
    for line in lines:
        assert all(
            2010 <= row["year"] < 2020 and "a" in row["tags"] and row["day"] < "2020" for row in line["attributes"]
        )


def test_search_writes_files(world):
    run("search", world / "idx", world / "q.npy", "-o", world / "out.npz", "--rows", 5)
    found = np.load(world / "out.npz")
    assert found["ids"].shape == (5, 10)
    run("search", world / "idx", world / "q.npy", "-o", world / "out.jsonl", "-f", "year > 3000")
    lines = [json.loads(line) for line in (world / "out.jsonl").read_text().splitlines()]
    assert [line["ids"] for line in lines] == [[]] * 20
    assert not list(world.glob("*.part"))


def test_info_and_explain_are_for_people(world):
    shown = run("info", world / "idx").output
    assert "500 rows of 24 dimensions" in shown
    assert "year: int, 2000 to 2024" in shown
    facts = json.loads(run("info", world / "idx", "--json").output)
    assert facts["rows"] == N
    assert {one["name"] for one in facts["attributes"]} == {"year", "day", "tags"}
    shown = run("explain", world / "idx", world / "q.npy", "--row", 3, "-f", "year == 2010").output
    assert "filter" in shown
    assert "nearest found" in shown


def test_bench_and_tune_measure_recall(world):
    shown = run("bench", world / "idx", world / "q.npy", "-f", "year >= 2010").output
    assert "20 queries, k = 10" in shown
    recall = float(shown.split("recall")[1].split()[0])
    assert 0.8 <= recall <= 1
    assert "p99" in shown
    before = SquashIndex.load(world / "idx").defaults
    done = run("tune", world / "idx", world / "q.npy", "--recall", 0.9)
    assert done.exit_code == 0, done.output
    assert "wanted 0.9" in done.output
    assert SquashIndex.load(world / "idx").defaults != before
    shown = run("bench", world / "idx", world / "q.npy").output
    assert float(shown.split("recall")[1].split()[0]) >= 0.9  # on the queries that it was tuned on


def test_the_first_rows_of_both_files(world, tmp_path):
    run("build", world / "x.npy", tmp_path / "idx", "-a", world / "a.jsonl", "--ids", "id", "--rows", 40)
    index = SquashIndex.load(tmp_path / "idx")
    assert len(index) == 40
    assert index.search(np.load(world / "x.npy")[7], k=1)[1].tolist() == [[1007]]


def test_only_the_named_attributes_are_kept(world, tmp_path):
    run(
        "build",
        world / "x.npy",
        tmp_path / "idx",
        "-a",
        world / "a.jsonl",
        "--only",
        "year",
        "--metric",
        "cosine",
        "--seed",
        3,
    )
    index = SquashIndex.load(tmp_path / "idx")
    assert list(index.metadata([0])) == ["year"]
    assert index.metric == "cosine"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("search", "idx", "q.npy", "-f", "year >"), "cannot be read"),
        (("search", "idx", "q.npy", "-f", "month > 3"), "no attribute 'month'"),
        (("search", "idx", "q.npy", "-f", "year == '2020'"), "year holds integers"),
        (("search", "idx", "a.jsonl"), "say which one"),
        (("search", "nowhere", "q.npy"), "nowhere"),
        (("explain", "idx", "q.npy", "--row", "20"), "no query 20"),
        (("build", "x.npy", "new", "-a", "a.jsonl", "--type", "year"), "name=kind"),
        (("build", "x.npy", "new", "--ids", "id"), "no such attribute"),
        (("build", "x.npy", "new", "-a", "a.jsonl", "--ids", "day"), "ids are integers"),
        (("build", "q.npy", "new", "-a", "a.jsonl"), "20 vectors"),
    ],
)
def test_mistakes_are_said_and_leave_no_index_behind(world, words, says):
    done = run(
        *(world / word if word in ("idx", "q.npy", "x.npy", "a.jsonl", "nowhere", "new") else word for word in words)
    )
    assert isinstance(done.exception, PaperworksError)
    with pytest.raises((InputError, PaperworksError), match=says):
        raise done.exception
    assert not (world / "new").exists()


AFTER_WARM = """
import sys
import numpy as np
from numba.core.event import install_recorder
from paperworks.papers.squash.filters import Attr
from paperworks.papers.squash.index import SquashIndex
from paperworks.papers.squash.warming import warm

warm()
index = SquashIndex.load(sys.argv[1])
queries = np.load(sys.argv[2])
wanted = (Attr("year") >= 2010) & Attr("tags").contains("a") & (Attr("day") < "2020-01-01")
with install_recorder("numba:compile") as compiled:
    for one in (None, wanted, Attr("year") == 2003, ~wanted | Attr("day").is_null()):
        index.search(queries[0], k=10, filter=one)
        index.search(queries, k=10, filter=one)
        index.search(queries.astype(np.float64), k=3, filter=one, exact=True)
        index.count(one)
assert not compiled.buffer, [str(event) for _, event in compiled.buffer]
"""


@pytest.mark.slow
def test_after_warm_no_search_waits_for_a_compiler(world):
    done = subprocess.run(
        [sys.executable, "-c", AFTER_WARM, str(world / "idx"), str(world / "q.npy")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_warm_says_when_it_is_done():
    done = run("warm")
    assert done.exit_code == 0
    assert "all kernels are compiled" in done.output
