"""Compare regressors on the native and on the enriched table: losses, ties, wins, mean ranks, Friedman's and Nemenyi's test.

The comparison of section 4 of the paper: k-fold cross-validation, RMSE on the transformed target, paired t-test over the folds for each
table, and ranks over the tables (over the folds when there is one table). Figures are given as texts, tables and SVG.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
from scipy import stats
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import KFold, check_cv
from sklearn.tree import DecisionTreeRegressor
from sklearn.utils import _safe_indexing

from paperworks.errors import InputError, MissingExtra
from paperworks.papers.threshold_features.engines import seeded
from paperworks.papers.threshold_features.features import ThresholdFeatures, check_target
from paperworks.papers.threshold_features.target import MinMaxBoxCox
from paperworks.progress import Progress, silent

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Score:
    """One fold of one table: n_thresholds 0 is the native table; rmse on the transformed target; seconds for fit and predict."""

    table: str
    regressor: str
    n_thresholds: int
    fold: int
    rmse: float
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """One regressor, native against enriched by S thresholds, over all tables."""

    regressor: str
    n_thresholds: int
    native_rmse: float
    enriched_rmse: float
    losses: int
    ties: int
    wins: int


@dataclass(frozen=True)
class Comparison:
    """What compare_enrichment measured."""

    scores: tuple[Score, ...]
    alpha: float = 0.05
    _cells: dict[tuple[str, str, int], np.ndarray] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        found: dict[tuple[str, str, int], list[tuple[int, float]]] = {}
        for score in self.scores:
            found.setdefault((score.table, score.regressor, score.n_thresholds), []).append((score.fold, score.rmse))
        self._cells.update({key: np.array([rmse for _, rmse in sorted(folds)]) for key, folds in found.items()})

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables."""
        return tuple(dict.fromkeys(score.table for score in self.scores))

    @property
    def regressors(self) -> tuple[str, ...]:
        """Names of the regressors."""
        return tuple(dict.fromkeys(score.regressor for score in self.scores))

    @property
    def n_thresholds(self) -> tuple[int, ...]:
        """The S that were tried, ascending."""
        return tuple(sorted({score.n_thresholds for score in self.scores} - {0}))

    def folds(self, table: str, regressor: str, n_thresholds: int = 0) -> np.ndarray:
        """RMSE of each fold (k,); n_thresholds 0 is the native table."""
        try:
            return self._cells[table, regressor, n_thresholds]
        except KeyError:
            raise InputError(
                f"no scores of {regressor!r} with {n_thresholds} thresholds on {table!r}; there are: "
                f"{', '.join(self.regressors)} with 0, {', '.join(map(str, self.n_thresholds))} on {', '.join(self.tables)}"
            ) from None

    def outcome(self, regressor: str, n_thresholds: int | None = None) -> Outcome:
        """Mean RMSE over tables, and on how many of them enrichment loses, ties or wins by a paired t-test over folds."""
        S = self.n_thresholds[-1] if n_thresholds is None else n_thresholds
        pairs = [(self.folds(table, regressor), self.folds(table, regressor, S)) for table in self.tables]
        signs = [verdict(native, enriched, self.alpha) for native, enriched in pairs]
        return Outcome(
            regressor,
            S,
            float(np.mean([native.mean() for native, _ in pairs])),
            float(np.mean([enriched.mean() for _, enriched in pairs])),
            signs.count(-1),
            signs.count(0),
            signs.count(1),
        )

    def ranks(self, n_thresholds: int | None = None) -> dict[str, float]:
        """Mean rank of each regressor, native ('linear') and enriched ('linear + S'); 1 is best, ties share theirs."""
        names, values = self._matrix(n_thresholds)
        return dict(zip(names, stats.rankdata(values, axis=1).mean(axis=0).tolist(), strict=True))

    def _matrix(self, n_thresholds: int | None) -> tuple[list[str], np.ndarray]:
        """(tables, 2 regressors) mean RMSE; with one table (folds, 2 regressors)."""
        S = self.n_thresholds[-1] if n_thresholds is None else n_thresholds
        methods = [(name, s) for name in self.regressors for s in (0, S)]
        names = [name if s == 0 else f"{name} + {s}" for name, s in methods]
        if len(self.tables) == 1:
            return names, np.column_stack([self.folds(self.tables[0], *method) for method in methods])
        return names, np.array([[self.folds(table, *method).mean() for method in methods] for table in self.tables])

    def friedman(self, n_thresholds: int | None = None) -> tuple[float, float]:
        """Friedman's statistic and its p value: whether the methods differ in rank at all."""
        _, values = self._matrix(n_thresholds)
        if values.shape[1] < 3 or len(values) < 2:
            raise InputError(
                f"Friedman's test needs at least 3 methods and 2 tables or folds, got {values.shape[1]} and {len(values)}"
            )
        statistic, p = stats.friedmanchisquare(*values.T)
        return float(statistic), float(p)

    def critical_difference(self, n_thresholds: int | None = None) -> float:
        """Nemenyi's critical difference: mean ranks that are nearer than this cannot be told apart at `alpha`."""
        _, values = self._matrix(n_thresholds)
        return nemenyi(values.shape[1], len(values), self.alpha)

    def to_table(self) -> str:
        """A Markdown table: mean RMSE native and enriched, losses/ties/wins, for each S."""
        lines = ["| regressor | S | native | enriched | L/T/W |", "| --- | --- | --- | --- | --- |"]
        for name in self.regressors:
            for S in self.n_thresholds:
                o = self.outcome(name, S)
                lines.append(
                    f"| {name} | {S} | {o.native_rmse:.4f} | {o.enriched_rmse:.4f} | {o.losses}/{o.ties}/{o.wins} |"
                )
        return "\n".join(lines)

    def to_pandas(self) -> Any:
        """All scores as a pandas DataFrame, one row a fold. Raises MissingExtra without pandas."""
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingExtra("Comparison.to_pandas", "peers") from error
        return pd.DataFrame([{name: getattr(s, name) for name in Score.__slots__} for s in self.scores])

    def to_svg(self, n_thresholds: int | None = None) -> str:
        """Demsar's critical-difference diagram: mean ranks on a line, bars over those that cannot be told apart."""
        return diagram(self.ranks(n_thresholds), self.critical_difference(n_thresholds))


def verdict(native: np.ndarray, enriched: np.ndarray, alpha: float = 0.05) -> int:
    """1 when enriched has the lower RMSE by a paired t-test over folds (k,), -1 when the higher, 0 when neither at level alpha."""
    gain = np.asarray(native) - np.asarray(enriched)
    if len(gain) < 2 or not gain.any():
        return 0
    if np.ptp(gain) == 0:
        return 1 if gain[0] > 0 else -1
    p = stats.ttest_rel(native, enriched).pvalue
    return 0 if p >= alpha else (1 if gain.mean() > 0 else -1)


def nemenyi(n_methods: int, n_blocks: int, alpha: float = 0.05) -> float:
    """Critical difference of mean ranks (Demsar 2006).

    >>> round(nemenyi(5, 30), 2)
    1.11
    """
    q = stats.studentized_range.ppf(1 - alpha, n_methods, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(n_methods * (n_methods + 1) / (6 * n_blocks)))


def diagram(ranks: Mapping[str, float], critical: float, width: int = 640) -> str:
    """The SVG of a critical-difference diagram for mean ranks by name."""
    order = sorted(ranks, key=lambda name: ranks[name])
    k = len(order)
    left, right, top = 150.0, width - 150.0, 40.0

    def x(rank: float) -> float:
        return left + (rank - 1) / max(k - 1, 1) * (right - left)

    half = (k + 1) // 2
    groups = [(i, max(j for j in range(i, k) if ranks[order[j]] - ranks[order[i]] < critical)) for i in range(k)]
    groups = [(i, j) for i, j in groups if j > i and not any(a < i and b >= j for a, b in groups)]
    body = top + 14 + 10 * len(groups)
    height = body + 22 * half + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height:.0f}" role="img" font-family="sans-serif" font-size="12">',
        f"<title>Mean ranks; differences below {critical:.2f} cannot be told apart</title>",
        f'<text x="{left}" y="14">critical difference {critical:.2f}</text>',
        f'<path d="M{left} {top}H{right}" stroke="currentColor"/>',
    ]
    for rank in range(1, k + 1):
        parts.append(f'<path d="M{x(rank):.1f} {top - 5}v5" stroke="currentColor"/>')
        parts.append(f'<text x="{x(rank):.1f}" y="{top - 8}" text-anchor="middle">{rank}</text>')
    for n, (i, j) in enumerate(groups):
        y = top + 10 + 10 * n
        parts.append(
            f'<path d="M{x(ranks[order[i]]) - 3:.1f} {y}H{x(ranks[order[j]]) + 3:.1f}" stroke="currentColor" stroke-width="4"/>'
        )
    for n, name in enumerate(order):
        at_left = n < half
        y = body + 22 * (n if at_left else k - 1 - n) + 14
        end = left - 8 if at_left else right + 8
        anchor = "end" if at_left else "start"
        place = x(ranks[name])
        parts.append(f'<path d="M{place:.1f} {top}V{y:.0f}H{end:.0f}" fill="none" stroke="currentColor"/>')
        parts.append(
            f'<text x="{end + (-4 if at_left else 4):.0f}" y="{y + 4:.0f}" text-anchor="{anchor}">{escape(name)} {ranks[name]:.2f}</text>'
        )
    return "\n".join([*parts, "</svg>"])


def default_regressors() -> dict[str, Any]:
    """The two that the paper found to gain most."""
    return {"linear": LinearRegression(), "tree": DecisionTreeRegressor(max_depth=8)}


def compare_enrichment(
    regressors: Mapping[str, Any] | Sequence[Any] | None,
    X: Any,
    y: Any = None,
    *,
    cv: Any = 10,
    n_thresholds: Sequence[int] | int = (2, 4, 8, 16, 32),
    features: ThresholdFeatures | None = None,
    target_transform: bool = True,
    alpha: float = 0.05,
    random_state: int = 0,
    progress: Progress = silent,
) -> Comparison:
    """Cross-validate regressors on the native table and enriched by each S.

    regressors: by name, or a list (named by class), or None for a linear model and a tree of depth 8.
    X (n, d), y (n,): one table; or X a mapping of names to (X, y) and y None: several tables.
    cv: folds, a number (shuffled by random_state) or a splitter. features: how to enrich; its n_thresholds is overridden.
    target_transform: RMSE on the min-max Box-Cox target as in the paper (True), or on y (False).

    >>> from paperworks.papers.threshold_features import toy
    >>> result = compare_enrichment({"linear": LinearRegression()}, *toy.steps(200), cv=4, n_thresholds=8)
    >>> result.outcome("linear").wins
    1
    """
    named = _named(regressors)
    tables = dict(X) if isinstance(X, Mapping) and y is None else {"table": (X, y)}
    if not tables or (y is None and not isinstance(X, Mapping)):
        raise InputError("give X and y, or a mapping of names to (X, y)")
    sizes = sorted({int(S) for S in np.atleast_1d(n_thresholds)})
    if not sizes or sizes[0] < 1:
        raise InputError(f"n_thresholds must be whole numbers of at least 1, got {n_thresholds!r}")
    base = ThresholdFeatures() if features is None else features
    scores: list[Score] = []
    splits = {name: _splits(cv, table, random_state) for name, table in tables.items()}
    total, done = sum(len(split) for split in splits.values()) * (1 + len(sizes)), 0
    for table, (X_all, y_raw) in tables.items():
        y_all = check_target(y_raw)
        for fold, (train, test) in enumerate(splits[table]):
            X_train, X_test = _safe_indexing(X_all, train), _safe_indexing(X_all, test)
            y_train, y_test = y_all[train], y_all[test]
            if target_transform:
                target = MinMaxBoxCox().fit(y_train.reshape(-1, 1))
                y_train, y_test = (target.transform(part.reshape(-1, 1)).ravel() for part in (y_train, y_test))
            for S in (0, *sizes):
                began = time.perf_counter()
                if S:
                    enrich = seeded_features(base, S, random_state + fold)
                    rows, new = enrich.fit_transform(X_train, y_train), enrich.transform(X_test)
                else:
                    rows, new = X_train, X_test
                shared = time.perf_counter() - began
                for name, regressor in named.items():
                    began = time.perf_counter()
                    guess = seeded(regressor, random_state + fold).fit(rows, y_train).predict(new)
                    rmse = float(np.sqrt(np.mean((np.ravel(guess) - y_test) ** 2)))
                    scores.append(Score(table, name, S, fold, rmse, shared + time.perf_counter() - began))
                done += 1
                progress(done, total, f"{table}, fold {fold + 1}, S = {S}")
    return Comparison(tuple(scores), alpha)


def seeded_features(features: ThresholdFeatures, S: int, seed: int) -> ThresholdFeatures:
    """A copy with S thresholds, and a random state if it has none."""
    copy: ThresholdFeatures = clone(features).set_params(n_thresholds=S)
    return copy.set_params(random_state=seed) if copy.random_state is None else copy


def _named(regressors: Mapping[str, Any] | Sequence[Any] | None) -> dict[str, Any]:
    if regressors is None:
        return default_regressors()
    if isinstance(regressors, Mapping):
        named = dict(regressors)
    else:
        items = list(regressors) if isinstance(regressors, Sequence) else [regressors]
        named = {type(item).__name__: item for item in items}
        if len(named) < len(items):
            raise InputError("two regressors of one class need names; give a mapping of names to regressors")
    if not named:
        raise InputError("give at least one regressor")
    return named


def _splits(cv: Any, table: tuple[Any, Any], seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    y = np.asarray(table[1])
    if isinstance(cv, (int, np.integer)):
        if not 2 <= cv <= len(y):
            raise InputError(f"cv must lie between 2 and the {len(y)} rows, got {cv}")
        return list(KFold(int(cv), shuffle=True, random_state=seed).split(y))
    return list(check_cv(cv).split(table[0], y))


def choose_n_thresholds(
    regressor: Any,
    X: Any,
    y: Any,
    *,
    candidates: Sequence[int] = (2, 4, 8, 16, 32, 64),
    tolerance: float = 0.01,
    cv: Any = 5,
    features: ThresholdFeatures | None = None,
    random_state: int = 0,
) -> tuple[int, dict[int, float]]:
    """The smallest S whose doubling no longer pays: (S, {S: cross-validated RMSE on the transformed target}).

    Candidates are tried in ascending order, until one improves on the best so far by less than `tolerance` (a share of it): what lies
    past the knee is never fitted. S = 0, the native table, is the start, so 0 comes back when enrichment does not help.
    """
    if tolerance < 0:
        raise InputError(f"tolerance must not be negative, got {tolerance}")
    sizes = sorted({int(S) for S in candidates})
    if not sizes or sizes[0] < 1:
        raise InputError(f"candidates must be whole numbers of at least 1, got {candidates!r}")
    found: dict[int, float] = {}
    best = 0
    for S in sizes:
        measured = compare_enrichment(
            {"it": regressor}, X, y, cv=cv, n_thresholds=S, features=features, random_state=random_state
        )
        found.setdefault(0, float(measured.folds("table", "it").mean()))
        found[S] = float(measured.folds("table", "it", S).mean())
        if found[S] >= found[best] * (1 - tolerance):
            break
        best = S
    log.info("%d thresholds chosen of %s", best, found)
    return best, found
