"""The paper's simulations, many repetitions at a time.

In each repetition n training and m validation rows are drawn; the unsupervised step sees all n + m of them, the predictor is
fitted on the n. `naive` is its error on the m validation rows, `truth` that of the same fitted step and predictor on fresh
rows, and `proper` that of a step which saw the n training rows alone. The paper's bias is naive - truth (its section 2);
naive - proper is another thing, since a step that saw more rows is another step.

Axis letters: b repetitions, n training, m validation, h fresh rows, d columns, k kept columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.preprocessing_bias import kernels
from paperworks.progress import Progress, silent

BATCH_BYTES = 48 * 1024 * 1024  # of the largest array of a batch
LASSO_TOL = 1e-6
LASSO_SWEEPS = 10_000
Z95 = 1.959963984540054


@dataclass(frozen=True)
class SimulationResult:
    """Mean squared errors of every repetition: naive, truth, proper (n_rep,), and what they say together."""

    kind: str
    n: int
    m: int
    settings: dict[str, Any]
    naive: np.ndarray
    truth: np.ndarray
    proper: np.ndarray

    @property
    def bias(self) -> float:
        """Mean of naive - truth: negative is optimistic, for an error."""
        return float(np.mean(self.naive - self.truth))

    @property
    def bias_half_width(self) -> float:
        """Half of the 95 % interval of the bias."""
        return Z95 * float(np.std(self.naive - self.truth, ddof=1)) / math.sqrt(self.naive.size)

    @property
    def bias_pct(self) -> float:
        """The bias in percent of the true error."""
        return 100 * self.bias / float(np.mean(self.truth))

    @property
    def bias_pct_half_width(self) -> float:
        """Half of its 95 % interval, by linearising the ratio of means."""
        truth = float(np.mean(self.truth))
        ratio = float(np.mean(self.naive)) / truth
        spread = float(np.std(self.naive - ratio * self.truth, ddof=1))
        return 100 * Z95 * spread / (truth * math.sqrt(self.naive.size))

    def summary(self) -> dict[str, float]:
        """Means and medians of the three errors, and the bias."""
        out: dict[str, float] = {}
        for name in ("naive", "truth", "proper"):
            values = getattr(self, name)
            out[name] = float(np.mean(values))
            out[f"{name}_median"] = float(np.median(values))
        return out | {
            "bias": self.bias,
            "bias_half_width": self.bias_half_width,
            "bias_pct": self.bias_pct,
            "bias_pct_half_width": self.bias_pct_half_width,
        }


Errors = tuple[np.ndarray, np.ndarray, np.ndarray]  # naive, truth, proper, each (b,)


def cv_bias_simulation(
    kind: str,
    *,
    n: int,
    m: int | None = None,
    n_rep: int = 10_000,
    seed: int = 0,
    progress: Progress = silent,
    **settings: Any,
) -> SimulationResult:
    """Run one cell of one of the paper's simulations.

    kind: 'variance_selection' (4.1), 'rare_categories' (5.1) or 'rescaled_lasso' (5.2); for section 6 see
    `model_selection_simulation`. n training rows; m validation rows (None: n, as in two-fold cross-validation; 1: leave one
    out). settings: those of the kind, see the functions below for names and defaults.

    Raises InputError for an unknown kind or setting, or n, m, n_rep below their least.
    """
    if kind not in KINDS:
        raise InputError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    m = n if m is None else m
    if n < 2 or m < 1 or n_rep < 2:
        raise InputError(f"n must be at least 2, m at least 1 and n_rep at least 2, got {n}, {m}, {n_rep}")
    step, defaults, floats = KINDS[kind]
    unknown = sorted(set(settings) - set(defaults))
    if unknown:
        raise InputError(f"{kind} has no setting {', '.join(unknown)}; it has {', '.join(defaults)}")
    chosen = defaults | settings
    parts: list[Errors] = []
    done = 0
    for rng, size in _batches(seed, n_rep, 8 * floats(n, m, chosen)):
        parts.append(step(rng, size, n, m, **chosen))
        done += size
        progress(done, n_rep, kind.replace("_", " "))
    naive, truth, proper = (np.concatenate(column) for column in zip(*parts, strict=True))
    return SimulationResult(kind, n, m, chosen, naive, truth, proper)


def _batches(seed: int, n_rep: int, bytes_each: int) -> Iterator[tuple[np.random.Generator, int]]:
    """Batches that fit the memory bound, each with a generator of its own, so that one can be repeated alone."""
    size = max(1, min(n_rep, BATCH_BYTES // max(1, bytes_each)))
    n_batches = math.ceil(n_rep / size)
    for index, child in enumerate(np.random.SeedSequence(seed).spawn(n_batches)):
        yield np.random.Generator(np.random.SFC64(child)), min(size, n_rep - index * size)


def _student(rng: np.random.Generator, df: float, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape) if math.isinf(df) else rng.standard_t(df, shape)


def variance_selection(
    rng: np.random.Generator,
    size: int,
    n: int,
    m: int,
    *,
    d: int,
    k: int,
    strong: int,
    factor: float,
    df: float,
    noise: float,
    criterion: str,
) -> Errors:
    """Section 4.1: keep the k columns of largest variance, then least squares without intercept.

    X entries t(df), the first `strong` columns times `factor`; weights N(0, 1); noise variance `noise` times the signal's
    scale, strong * factor^2 + d - strong. criterion: 'variance', or 'sumsq' for the sum of squares.
    """
    if not 1 <= k <= d:
        raise InputError(f"k must be between 1 and d = {d}, got {k}")
    X = _student(rng, df, (size, n + m + n, d))
    X[:, :, :strong] *= factor
    weights = rng.standard_normal((size, d))
    y = np.einsum("bnd,bd->bn", X, weights)
    if noise > 0:
        y += math.sqrt(noise * (strong * factor**2 + d - strong)) * rng.standard_normal(y.shape)
    return _select_and_fit(X, y, n, m, k, criterion)


def _select_and_fit(X: np.ndarray, y: np.ndarray, n: int, m: int, k: int, criterion: str) -> Errors:
    """X (b, n + m + h, d), y (b, n + m + h): choose k columns, fit least squares on n rows, three errors."""
    train, fresh = X[:, :n], X[:, n + m :]

    def errors(seen: np.ndarray, *, validate: bool) -> tuple[np.ndarray | None, np.ndarray]:
        score = np.square(seen).sum(axis=1) if criterion == "sumsq" else seen.var(axis=1)
        kept = np.argpartition(-score, k - 1, axis=1)[:, :k]  # (b, k); ties have probability zero here
        columns = kept[:, None, :]
        fit = _least_squares(np.take_along_axis(train, columns, 2), y[:, :n])
        held = np.einsum("bnk,bk->bn", np.take_along_axis(fresh, columns, 2), fit)
        truth = np.square(y[:, n + m :] - held).mean(axis=1)
        if not validate:
            return None, truth
        guess = np.einsum("bnk,bk->bn", np.take_along_axis(X[:, n : n + m], columns, 2), fit)
        return np.square(y[:, n : n + m] - guess).mean(axis=1), truth

    naive, truth = errors(X[:, : n + m], validate=True)
    _, proper = errors(train, validate=False)
    assert naive is not None
    return naive, truth, proper


def variance_selection_on(
    X: np.ndarray,
    y: np.ndarray,
    *,
    n: int,
    m: int | None = None,
    k: int,
    n_rep: int = 10_000,
    seed: int = 0,
    progress: Progress = silent,
) -> SimulationResult:
    """Section 4.2: the same on subsamples of a real table, whose columns are first divided by their standard deviation.

    X (rows, d), y (rows,): each repetition draws n + m + n different rows; X and y are centred on the n training rows, which is
    least squares with an intercept. Constant columns are left out.
    """
    m = n if m is None else m
    spread = X.std(axis=0)
    X = X[:, spread > 0] / spread[spread > 0]
    n_rows, total = len(X), 2 * n + m
    if total > n_rows:
        raise InputError(f"n + m + n = {total} rows are drawn, but the table has {n_rows}; take a smaller n")
    if not 1 <= k <= X.shape[1]:
        raise InputError(f"k must be between 1 and the {X.shape[1]} columns that vary, got {k}")
    parts: list[Errors] = []
    done = 0
    for rng, size in _batches(seed, n_rep, 8 * total * X.shape[1]):
        rows = np.stack([rng.choice(n_rows, total, replace=False, shuffle=True) for _ in range(size)])
        inputs, target = X[rows], y[rows].astype(float)
        target -= target[:, :n].mean(axis=1, keepdims=True)
        inputs = inputs - inputs[:, :n].mean(axis=1, keepdims=True)
        parts.append(_select_and_fit(inputs, target, n, m, k, "variance"))
        done += size
        progress(done, n_rep, "variance selection")
    naive, truth, proper = (np.concatenate(column) for column in zip(*parts, strict=True))
    return SimulationResult("variance_selection_on", n, m, {"k": k}, naive, truth, proper)


def _least_squares(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """X (b, n, k), y (b, n) -> weights (b, k) of least norm among the best."""
    if X.shape[1] > X.shape[2]:
        transposed = X.transpose(0, 2, 1)
        return np.linalg.solve(transposed @ X, transposed @ y[..., None])[..., 0]
    return (np.linalg.pinv(X) @ y[..., None])[..., 0]


def rare_categories(
    rng: np.random.Generator, size: int, n: int, m: int, *, n_categories: int, sigma: float, min_count: int, fresh: int
) -> Errors:
    """Section 5.1: categories with fewer than `min_count` of the n + m rows become 'rare', which predicts 0.

    Equiprobable categories with means mu ~ N(0, 1), y = mu + sigma N(0, 1); a category predicts its training mean. The true
    error given the training rows is exact: no fresh rows are drawn (`fresh` is kept for comparisons, 0 by default).
    """
    mu = rng.standard_normal((size, n_categories))
    category = rng.integers(0, n_categories, (size, n + m + fresh))
    y = np.take_along_axis(mu, category, 1) + sigma * rng.standard_normal(category.shape)
    rows = np.arange(size)[:, None] * n_categories
    flat_train = (rows + category[:, :n]).ravel()
    length = size * n_categories
    count_train = np.bincount(flat_train, minlength=length).reshape(size, n_categories)
    sums = np.bincount(flat_train, weights=y[:, :n].ravel(), minlength=length).reshape(size, n_categories)
    count_all = count_train + np.bincount((rows + category[:, n : n + m]).ravel(), minlength=length).reshape(
        size, n_categories
    )
    means = np.where(count_train > 0, sums / np.maximum(count_train, 1), 0.0)
    naive_means = np.where(count_all >= min_count, means, 0.0)
    proper_means = np.where(count_train >= min_count, means, 0.0)
    validation = category[:, n : n + m]
    naive = np.square(y[:, n : n + m] - np.take_along_axis(naive_means, validation, 1)).mean(axis=1)
    if fresh:
        chosen, target = category[:, n + m :], y[:, n + m :]
        truth = np.square(target - np.take_along_axis(naive_means, chosen, 1)).mean(axis=1)
        proper = np.square(target - np.take_along_axis(proper_means, chosen, 1)).mean(axis=1)
    else:  # E (mu_c + sigma z - prediction_c)^2 over a uniform category
        truth = np.square(mu - naive_means).mean(axis=1) + sigma**2
        proper = np.square(mu - proper_means).mean(axis=1) + sigma**2
    return naive, truth, proper


def rescaled_lasso(
    rng: np.random.Generator, size: int, n: int, m: int, *, d: int, sigma: float, alpha: float
) -> Errors:
    """Section 5.2: divide each column by its root mean square over n + m rows, then the Lasso without intercept.

    X ~ N(0, I / d), weights N(0, I), y = X w + sigma N(0, 1). The true error given the fit is exact: |w - v|^2 / d + sigma^2.
    """
    X = rng.standard_normal((size, n + m, d)) / math.sqrt(d)
    weights = rng.standard_normal((size, d))
    y = np.einsum("bnd,bd->bn", X, weights) + sigma * rng.standard_normal((size, n + m))
    train = X[:, :n]

    def fit(seen: np.ndarray) -> np.ndarray:
        scale = np.sqrt(np.square(seen).mean(axis=1))  # (b, d)
        return kernels.lasso_batch(train / scale[:, None, :], y[:, :n], alpha, LASSO_TOL, LASSO_SWEEPS) / scale

    def truth_of(estimate: np.ndarray) -> np.ndarray:
        return np.square(estimate - weights).sum(axis=1) / d + sigma**2

    leaky = fit(X)
    naive = np.square(y[:, n:] - np.einsum("bnd,bd->bn", X[:, n:], leaky)).mean(axis=1)
    return naive, truth_of(leaky), truth_of(fit(train))


Step = Callable[..., Errors]
KINDS: dict[str, tuple[Step, dict[str, Any], Callable[[int, int, dict[str, Any]], int]]] = {
    "variance_selection": (
        variance_selection,
        {"d": 100, "k": 10, "strong": 5, "factor": 5.0, "df": 4.0, "noise": 1.0, "criterion": "variance"},
        lambda n, m, s: (2 * n + m) * s["d"],
    ),
    "rare_categories": (
        rare_categories,
        {"n_categories": 20, "sigma": 0.25, "min_count": 4, "fresh": 0},
        lambda n, m, s: n + m + s["fresh"] + s["n_categories"],
    ),
    "rescaled_lasso": (
        rescaled_lasso,
        {"d": 5, "sigma": 0.1, "alpha": 0.5},
        lambda n, m, s: (n + m) * s["d"],
    ),
}


@dataclass(frozen=True)
class SelectionResult:
    """Model selection with the scaler inside (proper) and outside (naive) the folds; one entry a repetition."""

    proper: np.ndarray  # true error of the model that was chosen, scaler inside the folds
    naive: np.ndarray  # the same, scaler outside
    proper_alpha: np.ndarray
    naive_alpha: np.ndarray
    null: np.ndarray  # error of predicting 0

    @property
    def harm(self) -> float:
        """Mean of naive - proper: positive when the scaler outside the folds led to worse models."""
        return float(np.mean(self.naive - self.proper))

    @property
    def harm_half_width(self) -> float:
        """Half of the 95 % interval of the harm; pairs share their data."""
        return Z95 * float(np.std(self.naive - self.proper, ddof=1)) / math.sqrt(self.naive.size)


def model_selection_simulation(
    *,
    n: int,
    d: int = 100,
    sigma: float = 10.0,
    df: float = 4.0,
    n_folds: int = 10,
    alphas: np.ndarray | None = None,
    n_rep: int = 1000,
    seed: int = 0,
    progress: Progress = silent,
) -> SelectionResult:
    """Section 6: choose the penalty of a Lasso by cross-validation, with the scaler inside or outside the folds.

    X and the weights have t(df) entries, y = X w + sigma N(0, 1), alphas 2^-10 .. 2^10. Both ways see the same rows and
    folds, and the chosen penalty is then fitted on all n rows; its true error is over 100 n fresh rows as in the paper.
    """
    if n < n_folds:
        raise InputError(f"n must be at least the number of folds, {n_folds}, got {n}")
    grid = np.sort(2.0 ** np.arange(-10, 11) if alphas is None else np.asarray(alphas, dtype=float))[::-1].copy()
    columns: dict[str, list[float]] = {name: [] for name in ("proper", "naive", "proper_alpha", "naive_alpha", "null")}
    for index, child in enumerate(np.random.SeedSequence(seed).spawn(n_rep)):
        rng = np.random.Generator(np.random.SFC64(child))
        X = _student(rng, df, (n, d))
        weights = _student(rng, df, (d,))
        y = X @ weights + sigma * rng.standard_normal(n)
        fresh = _student(rng, df, (100 * n, d))
        target = fresh @ weights + sigma * rng.standard_normal(100 * n)
        folds = np.array_split(np.arange(n), n_folds)
        scale = np.sqrt(np.square(X).mean(axis=0))
        path = kernels.lasso_path(np.asfortranarray(X / scale), y, grid, 1e-4, 2000) / scale
        held = np.square(target[:, None] - fresh @ path.T).mean(axis=0)  # (n_alphas,)
        for way in ("proper", "naive"):
            losses = np.zeros(grid.size)
            for fold in folds:
                inside = np.setdiff1d(np.arange(n), fold, assume_unique=True)
                by = np.sqrt(np.square(X[inside]).mean(axis=0)) if way == "proper" else scale
                fits = kernels.lasso_path(np.asfortranarray(X[inside] / by), y[inside], grid, 1e-4, 2000) / by
                losses += np.square(y[fold][:, None] - X[fold] @ fits.T).sum(axis=0)
            best = int(np.argmin(losses))
            columns[way].append(float(held[best]))
            columns[f"{way}_alpha"].append(float(grid[best]))
        columns["null"].append(float(np.square(target).mean()))
        progress(index + 1, n_rep, "model selection")
    return SelectionResult(**{name: np.asarray(values) for name, values in columns.items()})
