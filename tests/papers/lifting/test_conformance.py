"""What of scikit-learn's contract the solvers keep, and which checks they cannot pass and why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from paperworks.errors import InputError
from paperworks.papers.lifting import BurerMonteiro, EscapingMatrixSensing, LiftedMatrixSensing

CANNOT = {
    "check_fit_score_takes_y": "the second argument is b, the measured values; a problem is not a table with a target",
    "check_dtype_object": "an array of objects is refused with the forms that measurements may have",
    "check_estimators_empty_data_messages": "an empty array is refused in the words of measurements, not of features",
}


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [BurerMonteiro(max_iter=50), EscapingMatrixSensing(max_iter=50, max_hops=1), LiftedMatrixSensing(2, max_iter=5)],
    expected_failed_checks=lambda _: CANNOT,
)
def test_scikit_learn_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("solver", [BurerMonteiro(), EscapingMatrixSensing(), LiftedMatrixSensing(2, max_iter=20)])
def test_complex_measurements_are_refused_and_the_side_is_known(solver: Any) -> None:
    vectors = np.random.default_rng(0).standard_normal((12, 3))
    with pytest.raises(InputError, match="Complex"):
        solver.fit(vectors * 1j, np.ones(12))
    assert solver.fit(vectors, np.ones(12)).n_features_in_ == 3
