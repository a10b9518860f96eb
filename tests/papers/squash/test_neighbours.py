"""The scikit-learn interface: what NearestNeighbors promises, and filters beside it."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.cluster import DBSCAN
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from paperworks.errors import InputError
from paperworks.papers.squash.filters import Attr
from paperworks.papers.squash.neighbours import SquashNeighbors, SquashTransformer

RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(12, 16)) * 3
X = (CENTRES[RNG.integers(0, 12, 900)] + RNG.normal(size=(900, 16))).astype(np.float32)
Q = (CENTRES[RNG.integers(0, 12, 40)] + RNG.normal(size=(40, 16))).astype(np.float32)
YEARS = RNG.integers(2000, 2020, 900)


@parametrize_with_checks([SquashNeighbors(), SquashTransformer()])
def test_it_behaves_as_an_estimator(estimator, check):
    check(estimator)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_exact_answers_are_those_of_brute_force(metric):
    mine = SquashNeighbors(7, metric=metric, exact=True).fit(X)
    brute = NearestNeighbors(n_neighbors=7, metric=metric, algorithm="brute").fit(X)
    for queries in (Q, None):
        distances, rows = mine.kneighbors(queries)
        true_distances, true_rows = brute.kneighbors(queries)
        np.testing.assert_allclose(distances, true_distances, rtol=1e-4, atol=1e-5)  # float32 sums over 16 dimensions
        assert np.mean(rows == true_rows) > 0.99  # near ties may change places
    assert distances.dtype == np.float64
    assert rows.dtype == np.int64


def test_default_answers_find_nearly_all_of_them():
    rows = SquashNeighbors(10).fit(X).kneighbors(Q, return_distance=False)
    true = NearestNeighbors(n_neighbors=10).fit(X).kneighbors(Q, return_distance=False)
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows.tolist(), true.tolist(), strict=True)]) > 0.95


def test_filters_hold_for_all_queries_or_for_each():
    model = SquashNeighbors(5, exact=True).fit(X, attributes={"year": YEARS})
    rows = model.kneighbors(Q, return_distance=False, filter=Attr("year") >= 2015)
    kept = np.flatnonzero(YEARS >= 2015)
    brute = NearestNeighbors(n_neighbors=5).fit(X[kept])
    np.testing.assert_array_equal(np.sort(rows), np.sort(kept[brute.kneighbors(Q, return_distance=False)]))
    each = [{"year": int(year)} for year in np.arange(40) % 20 + 2000]
    rows = model.kneighbors(Q, return_distance=False, filter=each)
    np.testing.assert_array_equal(YEARS[rows], np.repeat(np.arange(40)[:, None] % 20 + 2000, 5, axis=1))


def test_where_fewer_rows_pass_the_rest_is_marked():
    model = SquashNeighbors(5).fit(X, attributes={"row": np.arange(900)})
    distances, rows = model.kneighbors(Q, filter={"row": [3, 4, 5]})
    assert set(rows[:, :3].ravel().tolist()) == {3, 4, 5}
    assert (rows[:, 3:] == -1).all()
    assert np.isinf(distances[:, 3:]).all()
    assert model.kneighbors_graph(Q, filter={"row": [3, 4, 5]}).nnz == 3 * len(Q)


def test_a_row_is_not_its_own_neighbour_even_among_equal_rows():
    equal = np.concatenate([np.zeros((30, 4)), np.ones((3, 4))])
    rows = SquashNeighbors(2).fit(equal).kneighbors(return_distance=False)
    assert rows.shape == (33, 2)
    assert not (rows == np.arange(33)[:, None]).any()


def test_the_graph_is_that_of_scikit_learn():
    mine, brute = SquashNeighbors(4, exact=True).fit(X), NearestNeighbors(n_neighbors=4).fit(X)
    for mode in ("connectivity", "distance"):
        difference = abs(mine.kneighbors_graph(Q, mode=mode) - brute.kneighbors_graph(Q, mode=mode))
        assert difference.max() < 1e-4
    assert (mine.kneighbors_graph() - brute.kneighbors_graph()).nnz < 10


def test_all_rows_within_a_radius_are_found():
    mine, brute = SquashNeighbors(exact=False).fit(X), NearestNeighbors().fit(X)
    for queries, radius in ((Q, 3.0), (Q, 30.0), (None, 2.5)):
        distances, rows = mine.radius_neighbors(queries, radius)
        true_distances, true_rows = brute.radius_neighbors(queries, radius, sort_results=True)
        for a, b, c, d in zip(rows, true_rows, distances, true_distances, strict=True):
            assert set(a.tolist()) == set(b.tolist())
            np.testing.assert_allclose(c, d, rtol=1e-3, atol=1e-4)
    model = SquashNeighbors().fit(X, attributes={"year": YEARS})
    rows = model.radius_neighbors(Q, 4.0, return_distance=False, filter=Attr("year") == 2003)
    assert all((YEARS[found] == 2003).all() for found in rows)


def test_a_pickled_model_answers_the_same_with_its_attributes():
    model = SquashNeighbors(5, n_jobs=1).fit(X, attributes={"year": YEARS})
    copy = pickle.loads(pickle.dumps(model))
    for one, other in zip(
        model.kneighbors(Q, filter=Attr("year") > 2010), copy.kneighbors(Q, filter=Attr("year") > 2010), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_it_stands_in_a_pipeline_before_what_takes_a_precomputed_graph():
    clusters = make_pipeline(SquashTransformer(20, exact=True), DBSCAN(eps=4.0, metric="precomputed"))
    labels = clusters.fit_predict(X)
    plain = DBSCAN(eps=4.0).fit_predict(X)
    assert len(set(labels.tolist())) == len(set(plain.tolist()))
    y = RNG.integers(0, 2, 900)
    model = make_pipeline(SquashTransformer(6, exact=True), KNeighborsClassifier(5, metric="precomputed")).fit(X, y)
    assert np.mean(model.predict(Q) == KNeighborsClassifier(5).fit(X, y).predict(Q)) > 0.97


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: SquashNeighbors(metric="manhattan").fit(X), "manhattan"),
        (lambda: SquashNeighbors().fit(X).kneighbors(Q, n_neighbors=0), "from 1 on"),
        (lambda: SquashNeighbors().fit(X).kneighbors(Q, n_neighbors=901), "n_neighbors <= 900"),
        (lambda: SquashNeighbors().fit(X[:3]).kneighbors(n_neighbors=3), "n_neighbors <= 2"),
        (lambda: SquashNeighbors().fit(X).kneighbors_graph(Q, mode="weights"), "mode"),
        (lambda: SquashNeighbors().fit(X).radius_neighbors(Q, -1), "radius"),
        (lambda: SquashNeighbors().fit(X, attributes={"year": [1]}), "900 vectors"),
        (lambda: SquashNeighbors().fit(X).kneighbors(Q, filter=Attr("year") > 3), "no attribute 'year'"),
    ],
)
def test_what_cannot_be_done_is_said(call, says):
    with pytest.raises((InputError, LookupError), match=says):
        call()
