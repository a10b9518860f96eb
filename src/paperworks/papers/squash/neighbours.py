"""scikit-learn's neighbours interface over `SquashIndex`, with attributes at the fit and a filter at the search.

`SquashNeighbors` answers like `sklearn.neighbors.NearestNeighbors`; `SquashTransformer` puts the sparse graph into a pipeline, in
place of `KNeighborsTransformer`. n rows fitted, m queries, d features, k neighbours.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from paperworks.errors import InputError
from paperworks.papers.squash.filters import FilterLike, per_query
from paperworks.papers.squash.index import SquashIndex

METRICS = {"euclidean": "l2", "l2": "l2", "cosine": "cosine"}
MODES = ("connectivity", "distance")


class SquashNeighbors(BaseEstimator):
    """Nearest neighbours, approximate unless `exact`, among the rows that pass a filter.

    n_neighbors: default k. metric: "euclidean" ("l2") or "cosine". radius: default of `radius_neighbors`. bits: stored a
    dimension. exact: the answer of brute force. random_state: seed of the build. n_jobs: threads (None: 1, -1: all).

    Fitted: index_ (the `SquashIndex`), n_samples_fit_, n_features_in_.

    >>> X = np.random.default_rng(0).normal(size=(200, 8))
    >>> model = SquashNeighbors(n_neighbors=3).fit(X, attributes={"year": np.arange(200) % 10 + 2015})
    >>> distances, rows = model.kneighbors(X[:2], filter={"year": (2020, 2022)})
    >>> sorted(set((rows % 10 + 2015).ravel().tolist()) - {2020, 2021, 2022})
    []
    """

    def __init__(
        self,
        n_neighbors: int = 5,
        *,
        metric: str = "euclidean",
        radius: float = 1.0,
        bits: float = 4,
        exact: bool = False,
        random_state: int = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.metric = metric
        self.radius = radius
        self.bits = bits
        self.exact = exact
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(
        self, X: Any, y: Any = None, attributes: Any = None, types: Mapping[str, str] | None = None
    ) -> SquashNeighbors:
        """Build the index of X (n, d). attributes, types: as of `SquashIndex.build`; y is not looked at."""
        if self.metric not in METRICS:
            raise InputError(f"metric must be one of {', '.join(METRICS)}, got {self.metric!r}")
        X = validate_data(self, X, dtype=[np.float32, np.float64], order="C")
        index = SquashIndex(
            metric=METRICS[self.metric], bits=self.bits, random_state=self.random_state, n_jobs=self.n_jobs
        )
        self.index_ = index.build(X, attributes=attributes, types=None if types is None else dict(types))
        self.n_samples_fit_ = X.shape[0]
        self._fit_X = X
        return self

    def kneighbors(
        self,
        X: Any = None,
        n_neighbors: int | None = None,
        return_distance: bool = True,
        filter: FilterLike | Sequence[FilterLike] = None,
    ) -> Any:
        """Distances float64 (m, k) and row numbers int64 (m, k), nearest first; only the numbers without return_distance.

        X (m, d); None: the fitted rows, none of which is its own neighbour. filter: one for all queries or one for each, see
        `SquashIndex.search`; where fewer than k rows pass, the rest is inf and -1.
        """
        check_is_fitted(self)
        k = self._count(n_neighbors, own=X is None)
        if X is None:
            distances, rows = self._without_self(k, filter)
        else:
            X = validate_data(self, X, dtype=[np.float32, np.float64], order="C", reset=False)
            distances, rows = self.index_.search(X, k=k, filter=filter, exact=self.exact)
        return (distances.astype(np.float64), rows) if return_distance else rows

    def kneighbors_graph(
        self,
        X: Any = None,
        n_neighbors: int | None = None,
        mode: str = "connectivity",
        filter: FilterLike | Sequence[FilterLike] = None,
    ) -> csr_matrix:
        """Sparse (m, n): 1 for each neighbour, or its distance with mode "distance"."""
        if mode not in MODES:
            raise InputError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
        distances, rows = self.kneighbors(X, n_neighbors, filter=filter)
        found = rows >= 0
        starts = np.concatenate(([0], np.cumsum(found.sum(axis=1))))
        values = distances[found] if mode == "distance" else np.ones(int(starts[-1]))
        return csr_matrix((values, rows[found], starts), shape=(len(rows), self.n_samples_fit_))

    def radius_neighbors(
        self,
        X: Any = None,
        radius: float | None = None,
        return_distance: bool = True,
        filter: FilterLike | Sequence[FilterLike] = None,
    ) -> Any:
        """All rows within `radius`, nearest first: arrays of distances and of row numbers, one for each query; always exact."""
        check_is_fitted(self)
        limit: Any = self.radius if radius is None else radius
        if not isinstance(limit, int | float | np.number) or not limit >= 0:
            raise InputError(f"radius must be a number from 0 on, got {limit!r}")
        own = X is None
        queries = self._fit_X if own else validate_data(self, X, dtype=[np.float32, np.float64], order="C", reset=False)
        m, n = len(queries), self.n_samples_fit_
        each = per_query(filter, m)
        found: list[tuple[np.ndarray, np.ndarray]] = [(np.zeros(0), np.zeros(0, np.int64))] * m
        open_queries, k = np.arange(m), min(n, 32)
        while len(open_queries):
            asked = [each[i] for i in open_queries]
            distances, rows = self.index_.search(queries[open_queries], k=k, filter=asked, exact=True)
            still = []
            for query, near, numbers in zip(open_queries.tolist(), distances, rows, strict=True):
                if k < n and near[-1] <= limit:  # there may be more
                    still.append(query)
                    continue
                inside = (near <= limit) & (numbers >= 0)
                inside &= ~(own & (numbers == query))
                found[query] = near[inside].astype(np.float64), numbers[inside]
            open_queries, k = np.array(still, dtype=np.int64), min(n, 4 * k)
        parts = [np.empty(m, dtype=object) for _ in range(2)]
        for i, pair in enumerate(found):
            parts[0][i], parts[1][i] = pair
        return (parts[0], parts[1]) if return_distance else parts[1]

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "index_" in state:  # locks and mapped files do not travel; the saved folder does
            state["index_"] = _packed(state["index_"])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "index_" in state:
            state = {**state, "index_": _unpacked(state["index_"], state["n_jobs"])}
        super().__setstate__(state)

    def _without_self(self, k: int, filter: Any) -> tuple[np.ndarray, np.ndarray]:
        distances, rows = self.index_.search(self._fit_X, k=k + 1, filter=filter, exact=self.exact)
        is_self = rows == np.arange(self.n_samples_fit_)[:, None]
        is_self[~is_self.any(axis=1), -1] = (
            True  # among many equal rows it may have been left out: then the farthest goes
        )
        return distances[~is_self].reshape(-1, k), rows[~is_self].reshape(-1, k)

    def _count(self, wanted: int | None, own: bool) -> int:
        k: Any = self.n_neighbors if wanted is None else wanted
        if isinstance(k, bool) or not isinstance(k, Integral) or k < 1:
            raise InputError(f"n_neighbors must be a whole number from 1 on, got {k!r}")
        limit = self.n_samples_fit_ - own
        if k > limit:
            raise InputError(f"Expected n_neighbors <= {limit} for {self.n_samples_fit_} fitted rows, got {k}")
        return int(k)


def _packed(index: SquashIndex) -> dict[str, bytes]:
    """The files of a saved index by name."""
    with tempfile.TemporaryDirectory(prefix="squash-") as holder:
        folder = index.save(Path(holder) / "index")
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _unpacked(files: Mapping[str, bytes], n_jobs: int | None) -> SquashIndex:
    with tempfile.TemporaryDirectory(prefix="squash-") as holder:
        for name, content in files.items():
            path = Path(holder) / "index" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return SquashIndex.load(Path(holder) / "index", mmap=False, n_jobs=n_jobs)


class SquashTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, SquashNeighbors):
    """The sparse graph of neighbours as a step of a pipeline, for estimators with metric="precomputed".

    mode: "distance" (then each row counts itself and n_neighbors more, as in scikit-learn) or "connectivity". The others are
    those of `SquashNeighbors`.
    """

    def __init__(
        self,
        n_neighbors: int = 5,
        *,
        mode: str = "distance",
        metric: str = "euclidean",
        radius: float = 1.0,
        bits: float = 4,
        exact: bool = False,
        random_state: int = 0,
        n_jobs: int | None = None,
    ) -> None:
        super().__init__(
            n_neighbors,
            metric=metric,
            radius=radius,
            bits=bits,
            exact=exact,
            random_state=random_state,
            n_jobs=n_jobs,
        )
        self.mode = mode

    def fit(
        self, X: Any, y: Any = None, attributes: Any = None, types: Mapping[str, str] | None = None
    ) -> SquashTransformer:
        """Build the index of X (n, d)."""
        super().fit(X, y, attributes, types)
        self._n_features_out = self.n_samples_fit_
        return self

    def transform(self, X: Any) -> csr_matrix:
        """The graph (m, n) from rows of X to the fitted rows."""
        check_is_fitted(self)
        return self.kneighbors_graph(X, self.n_neighbors + (self.mode == "distance"), self.mode)

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> csr_matrix:
        """Fit on X and give its own graph."""
        return self.fit(X, y, **fit_params).transform(X)
