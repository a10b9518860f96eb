"""How wrong is a cross-validated score whose preprocessing was fitted outside the folds?

Two numbers that are often mixed up are kept apart. The *gap* is the naive score minus the proper one (every step inside the
folds). The *bias* is the paper's: the naive score minus the score of the very same fitted steps and models on held-out rows.
Scores follow scikit-learn: greater is better, so a positive bias is optimistic, whatever the metric.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from scipy import stats
from sklearn.metrics import check_scoring
from sklearn.model_selection import BaseCrossValidator
from sklearn.pipeline import Pipeline

from paperworks.errors import InputError
from paperworks.papers.preprocessing_bias import arms
from paperworks.papers.preprocessing_bias.report import PreprocessingBiasReport, StepShare
from paperworks.progress import Progress, silent

MOST_SHAPLEY_STEPS = 5
ATTRIBUTION_REPEATS = 3
SIGN_FLIPS = 9999


def preprocessing_bias(
    pipeline: Any,
    X: Any,
    y: Any,
    *,
    cv: Any = 5,
    scoring: Any = None,
    outside: str | Sequence[str] | None = "unsupervised",
    n_repeats: int = 20,
    n_splits: int = 20,
    holdout: float = 0.25,
    extrapolate: bool = False,
    groups: Any = None,
    sample_weight: Any = None,
    n_jobs: int | None = None,
    random_state: int = 0,
    ci: float = 0.95,
    tol: float | None = None,
    progress: Progress = silent,
) -> PreprocessingBiasReport:
    """Audit a pipeline, or a (preprocessor, estimator) pair, whose named steps were fitted before cross-validation.

    X (n, d): array, sparse matrix or data frame; y (n,). cv: number of folds or a splitter. scoring: as in scikit-learn (None:
    the estimator's own). outside: 'unsupervised' (default: every step that does not look at y), 'all', or names of steps.
    n_repeats: repeats of the cross-validation for the gap. n_splits: random divisions into audited and held-out rows (share
    `holdout`) for the bias. extrapolate: also measure the bias at half and three quarters of the rows, and fit a + c / n.
    tol: stop early once the interval of the gap is narrower than +- tol. ci: level of the intervals.

    Intervals use the correction of Nadeau and Bengio for overlapping training sets. The same seeds are used in both arms, and
    the result does not depend on n_jobs.

    Raises TypeError without a final estimator, InputError for unknown steps or lengths that disagree, and what scikit-learn
    raises for folds that cannot be made, before anything long begins.
    """
    model = arms.as_pipeline(pipeline)
    data = _data(X, y, groups, sample_weight)
    if not 0 < holdout < 1:
        raise InputError(f"holdout is a share of the rows between 0 and 1, got {holdout}")
    if not 0 < ci < 1:
        raise InputError(f"ci is a level between 0 and 1, got {ci}")
    scorer = check_scoring(model, scoring=scoring)
    steps = arms.transformers(model)
    final = model.steps[-1][1]
    list(arms.splitter(cv, data.y, final, 0).split(np.zeros(len(data)), data.y, data.groups))  # fails now or never
    seeds = [int(s) for s in np.random.SeedSequence(random_state).generate_state(max(n_repeats, n_splits) + 1)]
    supervised = arms.uses_y(steps, data, seeds[-1]) if steps else set()
    chosen = arms.choose_outside(outside, steps, supervised)
    n_repeats = n_repeats if arms.is_repeatable(cv) else 1

    naive, proper, failures = _gap(model, data, cv, scorer, chosen, seeds[:n_repeats], n_jobs, tol, ci, progress)
    biases = _biases(model, data, cv, scorer, chosen, holdout, seeds[:n_splits], n_jobs, progress)
    n_folds = naive.shape[1]
    gap, gap_ci = corrected_interval((naive - proper).ravel(), 1 / (n_folds - 1) if n_folds > 1 else 1.0, ci)
    bias, bias_ci = corrected_interval(biases[:, 0] - biases[:, 1], holdout / (1 - holdout), ci)
    return PreprocessingBiasReport(
        outside_=tuple(name for name, _ in steps if name in chosen),
        supervised_=tuple(name for name, _ in steps if name in supervised),
        scoring_=getattr(scorer, "_score_func", scorer).__name__ if hasattr(scorer, "_score_func") else "score",
        naive_=float(naive.mean()),
        proper_=float(proper.mean()),
        holdout_=float(biases[:, 1].mean()),
        gap_=gap,
        gap_ci_=gap_ci,
        bias_=bias,
        bias_ci_=bias_ci,
        p_value_=sign_flip_p((naive - proper).mean(axis=1) if len(naive) > 1 else (naive - proper)[0], seeds[-1]),
        steps_=_attribution(model, data, cv, scorer, chosen, seeds[:ATTRIBUTION_REPEATS]),
        extrapolation_=_extrapolation(model, data, cv, scorer, chosen, holdout, seeds[:n_splits], n_jobs, biases)
        if extrapolate
        else None,
        n_rows_=len(data),
        n_effective_=round(len(data) * (1 - holdout)),
        n_repeats_=len(naive),
        ci_level_=ci,
        time_series_=type(cv).__name__ == "TimeSeriesSplit",
        failures_=tuple(failures),
        gaps_=(naive - proper),
        biases_=biases[:, 0] - biases[:, 1],
    )


def _data(X: Any, y: Any, groups: Any, weights: Any) -> arms.Data:
    rows = X if hasattr(X, "shape") else np.asarray(X)
    target = np.asarray(y)
    if rows.shape[0] != target.shape[0]:
        raise InputError(f"X has {rows.shape[0]} rows and y has {target.shape[0]}; they must be as many")
    parts = [None if part is None else np.asarray(part) for part in (groups, weights)]
    for name, part in zip(("groups", "sample_weight"), parts, strict=True):
        if part is not None and len(part) != len(target):
            raise InputError(f"{name} has {len(part)} entries and y has {len(target)}; they must be as many")
    return arms.Data(rows, target, *parts)


def _folds(cv: Any, data: arms.Data, final: Any, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    made: BaseCrossValidator = arms.splitter(cv, data.y, final, seed)
    return list(made.split(np.zeros(len(data)), data.y, data.groups))


def _cross_validate(
    model: Pipeline, data: arms.Data, cv: Any, scorer: Any, outside: frozenset[str], seed: int
) -> list[float]:
    arm = arms.Arm(model, outside, data, seed)
    scores = []
    for train, test in _folds(cv, data, model.steps[-1][1], seed):
        _, final = arm.fit(train)
        scores.append(arm.score(final, test, scorer))
    return scores


def _one_repeat(
    model: Pipeline, data: arms.Data, cv: Any, scorer: Any, chosen: frozenset[str], seed: int
) -> tuple[list[float], list[float], list[str]]:
    """Naive and proper scores of one repeat; a fold in which the proper steps cannot be fitted is named and left out of both."""
    naive_arm, proper_arm = arms.Arm(model, chosen, data, seed), arms.Arm(model, (), data, seed)
    naive, proper, failures = [], [], []
    for number, (train, test) in enumerate(_folds(cv, data, model.steps[-1][1], seed)):
        try:
            _, final = proper_arm.fit(train)
            proper_score = proper_arm.score(final, test, scorer)
        except ValueError as error:
            failures.append(f"seed {seed}, fold {number}: {error}")
            naive.append(math.nan)
            proper.append(math.nan)
            continue
        _, final = naive_arm.fit(train)
        naive.append(naive_arm.score(final, test, scorer))
        proper.append(proper_score)
    return naive, proper, failures


def _gap(
    model: Pipeline,
    data: arms.Data,
    cv: Any,
    scorer: Any,
    chosen: frozenset[str],
    seeds: list[int],
    n_jobs: int | None,
    tol: float | None,
    ci: float,
    progress: Progress,
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Paired scores (n_repeats, n_folds) of the naive and the proper way; fewer repeats when `tol` is reached."""
    results: list[tuple[list[float], list[float], list[str]]] = []
    chunk = len(seeds) if tol is None else 4  # checked every four repeats, so that n_jobs does not change the outcome
    for begin in range(0, len(seeds), chunk):
        work = (delayed(_one_repeat)(model, data, cv, scorer, chosen, seed) for seed in seeds[begin : begin + chunk])
        results += Parallel(n_jobs=n_jobs)(work)
        progress(len(results), len(seeds), "naive against proper")
        difference = np.array([a for a, _, _ in results]) - np.array([b for _, b, _ in results])
        if tol is not None and np.isfinite(difference).all():
            _, (low, high) = corrected_interval(difference.ravel(), 1 / max(1, difference.shape[1] - 1), ci)
            if (high - low) / 2 < tol:
                break
    failures = [message for _, _, messages in results for message in messages]
    naive, proper = np.array([a for a, _, _ in results]), np.array([b for _, b, _ in results])
    whole = np.isfinite(naive).all(axis=1)
    if not whole.any():
        raise InputError(
            "the steps could not be fitted inside the folds in any repeat; the first failure was: " + failures[0]
        )
    return naive[whole], proper[whole], failures


def _one_bias(
    model: Pipeline,
    data: arms.Data,
    cv: Any,
    scorer: Any,
    chosen: frozenset[str],
    split: tuple[np.ndarray, np.ndarray],
    seed: int,
) -> tuple[float, float]:
    """Mean naive score of the folds, and mean score of the same fitted steps and models on the held-out rows."""
    audited, held = data.take(split[0]), data.take(split[1])
    arm = arms.Arm(model, chosen, audited, seed)
    naive, fresh = [], []
    for train, test in _folds(cv, audited, model.steps[-1][1], seed):
        fitted, final = arm.fit(train)
        naive.append(arm.score(final, test, scorer))
        fresh.append(arms.score_fresh(fitted, final, held, scorer))
    return float(np.mean(naive)), float(np.mean(fresh))


def _biases(
    model: Pipeline,
    data: arms.Data,
    cv: Any,
    scorer: Any,
    chosen: frozenset[str],
    holdout: float,
    seeds: list[int],
    n_jobs: int | None,
    progress: Progress = silent,
) -> np.ndarray:
    """(n_splits, 2): naive score and held-out score of each division."""
    splits = list(arms.outer_splits(cv, data, model.steps[-1][1], holdout, len(seeds), seeds[0] % 2**31))
    work = (
        delayed(_one_bias)(model, data, cv, scorer, chosen, split, seed)
        for split, seed in zip(splits, seeds, strict=False)
    )
    found = np.array(Parallel(n_jobs=n_jobs)(work))
    progress(len(found), len(splits), "naive against held-out rows")
    return found


def _attribution(
    model: Pipeline, data: arms.Data, cv: Any, scorer: Any, chosen: frozenset[str], seeds: list[int]
) -> tuple[StepShare, ...]:
    """What each step outside contributes to the gap: alone, and by its Shapley value over all orders (up to five steps)."""
    names = [name for name, _ in arms.transformers(model) if name in chosen]
    if not names:
        return ()
    exact = len(names) <= MOST_SHAPLEY_STEPS
    if exact:
        subsets = [frozenset(c) for size in range(len(names) + 1) for c in itertools.combinations(names, size)]
    else:
        subsets = [frozenset(), *(frozenset([name]) for name in names)]
    value: dict[frozenset[str], float] = {}
    for subset in subsets:
        try:
            value[subset] = float(
                np.mean([np.mean(_cross_validate(model, data, cv, scorer, subset, seed)) for seed in seeds])
            )
        except ValueError:  # a step that cannot be fitted inside the folds; the repeats have named it
            value[subset] = math.nan
    shares = []
    for name in names:
        alone = value[frozenset([name])] - value[frozenset()]
        shapley = None
        if exact:
            others = [other for other in names if other != name]
            shapley = 0.0
            for size in range(len(others) + 1):
                weight = 1 / (len(names) * math.comb(len(others), size))
                for c in itertools.combinations(others, size):
                    shapley += weight * (value[frozenset([*c, name])] - value[frozenset(c)])
        shares.append(StepShare(name, alone, shapley))
    return tuple(shares)


def _extrapolation(
    model: Pipeline,
    data: arms.Data,
    cv: Any,
    scorer: Any,
    chosen: frozenset[str],
    holdout: float,
    seeds: list[int],
    n_jobs: int | None,
    full: np.ndarray,
) -> tuple[float, float]:
    """Coefficients (a, c) of bias = a + c / n, from half, three quarters and all of the audited rows."""
    sizes, values = [len(data) * (1 - holdout)], [float(np.mean(full[:, 0] - full[:, 1]))]
    rng = np.random.default_rng(seeds[0])
    for share in (0.5, 0.75):
        rows = np.sort(rng.choice(len(data), int(len(data) * share), replace=False))
        part = _biases(model, data.take(rows), cv, scorer, chosen, holdout, seeds, n_jobs)
        sizes.append(len(rows) * (1 - holdout))
        values.append(float(np.mean(part[:, 0] - part[:, 1])))
    design = np.column_stack([np.ones(3), 1 / np.array(sizes)])
    a, c = np.linalg.lstsq(design, np.array(values), rcond=None)[0]
    return float(a), float(c)


def corrected_interval(
    differences: np.ndarray, test_over_train: float, level: float = 0.95
) -> tuple[float, tuple[float, float]]:
    """Mean of paired differences and its t interval, variance factor 1 / J + n_test / n_train (Nadeau and Bengio, 2003).

    >>> mean, (low, high) = corrected_interval(np.array([1.0, 2.0, 3.0]), 0.25)
    >>> round(mean, 2), round(high - mean, 2)
    (2.0, 3.29)
    """
    mean = float(np.mean(differences))
    if differences.size < 2:
        return mean, (-math.inf, math.inf)
    spread = float(np.var(differences, ddof=1))
    half = stats.t.ppf((1 + level) / 2, differences.size - 1) * math.sqrt(
        (1 / differences.size + test_over_train) * spread
    )
    return mean, (mean - float(half), mean + float(half))


def sign_flip_p(differences: np.ndarray, seed: int) -> float:
    """Two-sided p value of the sign-flip test that the mean is zero; exact up to 13 differences."""
    differences = np.asarray(differences, dtype=float)
    observed = abs(differences.sum()) - 1e-12
    n = differences.size
    if n <= 13:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=n)))
        return float(np.mean(np.abs(signs @ differences) >= observed))
    signs = np.random.default_rng(seed).choice((1.0, -1.0), (SIGN_FLIPS, n))
    return float((1 + np.sum(np.abs(signs @ differences) >= observed)) / (SIGN_FLIPS + 1))


def assert_no_cv_bias(pipeline: Any, X: Any, y: Any, tol: float = 0.02, **options: Any) -> None:
    """For a test suite: fail when the bias of the score is larger than `tol` beyond doubt, or a step outside looks at y.

    options: those of `preprocessing_bias`. Raises AssertionError with the report's sentence.
    """
    preprocessing_bias(pipeline, X, y, **options).raise_if(tol)
