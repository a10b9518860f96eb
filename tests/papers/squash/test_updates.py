"""Rows that come and go: an index that changes gives the answers of brute force over the living rows."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.squash.filters import Attr
from paperworks.papers.squash.index import SquashIndex

D = 12


def rows(n, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, D)).astype(np.float32), {
        "year": rng.integers(2000, 2020, n),
        "tag": rng.choice(["x", "y"], n),
    }


def nearest(vectors, ids, query, k, metric):
    if metric == "cosine":
        scores = 1 - vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    elif metric == "ip":
        scores = -vectors @ query
    else:
        scores = np.linalg.norm(vectors - query, axis=1)
    order = np.argsort(scores)[:k]
    return scores[order], ids[order]


@pytest.mark.parametrize("metric", ["l2", "cosine", "ip"])
@given(st.lists(st.tuples(st.sampled_from(["add", "delete", "compact", "reload"]), st.integers(0, 10**6)), max_size=6))
@settings(max_examples=12, deadline=None)
def test_any_order_of_changes_leaves_what_brute_force_finds(tmp_path_factory, metric, steps):
    vectors, columns = rows(60, 0)
    index = SquashIndex(metric=metric).build(vectors, columns)
    ids = np.arange(60)
    for step, seed in steps:
        if step == "add":
            more, more_columns = rows(7, seed)
            more *= 1 + seed % 3  # longer than any row of the build: what inner products widen by no longer fits
            new = index.add(more, more_columns)
            vectors, ids = np.concatenate([vectors, more]), np.concatenate([ids, new])
            columns = {name: np.concatenate([columns[name], more_columns[name]]) for name in columns}
        elif step == "delete" and len(ids) > 5:
            gone = np.random.default_rng(seed).choice(ids, 5, replace=False)
            assert index.delete(gone) == 5
            left = ~np.isin(ids, gone)
            vectors, ids, columns = vectors[left], ids[left], {name: value[left] for name, value in columns.items()}
        elif step == "compact":
            index.compact()
        elif step == "reload":
            index = SquashIndex.load(index.save(tmp_path_factory.mktemp("x") / "idx"))
    assert len(index) == len(ids)
    query = np.random.default_rng(9).normal(size=D).astype(np.float32)
    mask = (columns["year"] < 2012) | (columns["tag"] == "x")
    what = (Attr("year") < 2012) | (Attr("tag") == "x")
    assert index.count(what) == mask.sum()
    k = min(10, int(mask.sum()))
    wanted_d, wanted = nearest(vectors[mask], ids[mask], query, k, metric)
    for options in ({"exact": True}, {"keep": 1000, "n_probe": 1000}):
        distances, found = index.search(query, k, what, **options)
        np.testing.assert_allclose(distances[0], wanted_d, rtol=1e-4, atol=1e-4)
        assert set(found[0]) == set(wanted)
    some = ids[:4]
    assert index.metadata(some)["year"] == columns["year"][:4].tolist()


def test_added_ids_count_on_and_must_be_new():
    index = SquashIndex().build(rows(20, 0)[0], ids=np.arange(20) * 10)
    assert index.add(rows(2, 1)[0]).tolist() == [191, 192]
    for ids in ([190, 500], [191, 500], [7, 7]):
        with pytest.raises(InputError, match=r"already|more than once"):
            index.add(rows(2, 2)[0], ids=ids)
    index.delete([190])
    index.add(rows(1, 3)[0], ids=[190])  # a deleted id may come again
    assert index.search(rows(1, 3)[0], 1)[1].tolist() == [[190]]
    index.delete(190)
    assert 190 not in index.search(np.zeros(D), 30)[1]


def test_what_does_not_fit_is_refused_and_changes_nothing():
    vectors, columns = rows(30, 0)
    index = SquashIndex().build(vectors, columns)
    before = index.search(vectors[:3], 5)
    for bad, words in (
        ((np.ones((2, D + 1)), {"year": [1, 2], "tag": ["x", "y"]}), "dimensions"),
        ((np.full((1, D), np.nan), {"year": [1], "tag": ["x"]}), "row 0"),
        ((np.ones((1, D)), None), "attributes"),
        ((np.ones((1, D)), {"year": [1]}), "tag"),
        ((np.ones((1, D)), {"year": [1, 2], "tag": ["x", "y"]}), "rows"),
        ((np.ones((1, D)), {"year": [1], "tag": ["x"], "more": [1]}), "attributes"),
    ):
        with pytest.raises(InputError, match=words):
            index.add(*bad)
    with pytest.raises(InputError, match="999"):
        index.delete([1, 999])
    with pytest.raises(InputError, match="integers"):
        index.delete([0.5])
    assert len(index) == 30
    after = index.search(vectors[:3], 5)
    assert (before[1] == after[1]).all()
    assert index.delete([1, 999], ignore_missing=True) == 1


def test_masks_cover_deleted_rows_until_compact():
    vectors, _ = rows(50, 0)
    index = SquashIndex().build(vectors)
    index.delete(np.arange(10))
    index.add(rows(5, 1)[0])
    mask = np.zeros(55, bool)
    mask[[3, 20, 52]] = True
    assert set(index.search(vectors[0], 5, mask)[1][0]) == {20, 52, -1}
    index.compact()
    mask = np.zeros(45, bool)
    mask[[0, 44]] = True
    assert set(index.search(vectors[0], 5, mask)[1][0]) == {10, 54, -1}


def test_everything_can_be_deleted():
    index = SquashIndex().build(rows(40, 0)[0])
    index.delete(np.arange(40))
    assert len(index) == 0
    assert (index.search(np.zeros(D), 3)[1] == -1).all()
    index.compact()
    assert (index.search(np.zeros(D), 3)[1] == -1).all()
    index.add(rows(2, 1)[0])
    assert sorted(index.search(np.zeros(D), 2)[1][0].tolist()) == [0, 1]


def test_searches_go_on_while_rows_come_and_go():
    vectors, _ = rows(500, 0)
    index = SquashIndex().build(vectors)
    problems, stop = [], threading.Event()

    def search():
        while not stop.is_set():
            distances, ids = index.search(vectors[:4], 8)
            if not (np.isfinite(distances).all() and (np.diff(distances, axis=1) >= 0).all() and (ids >= 0).all()):
                problems.append((distances, ids))

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    for seed in range(6):
        new = index.add(rows(20, seed)[0])
        index.delete(new[:10])
        index.compact()
    stop.set()
    for thread in threads:
        thread.join()
    assert not problems
    assert len(index) == 560
