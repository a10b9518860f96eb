"""The transformers keep scikit-learn's rules, and do what the paper's steps do."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.utils.estimator_checks import parametrize_with_checks

from paperworks.errors import InputError
from paperworks.papers.preprocessing_bias import (
    CategoryMeanRegressor,
    RareCategoryGrouper,
    TopKVariance,
    ZeroMeanScaler,
)


@pytest.mark.filterwarnings("ignore::UserWarning")
@parametrize_with_checks([TopKVariance(2), ZeroMeanScaler(), RareCategoryGrouper(rare=-1.0), CategoryMeanRegressor()])
def test_scikit_learns_checks(estimator, check) -> None:
    # a grouper whose `rare` is a text gives texts, which the generic checks compare as numbers; hence rare=-1.0
    check(estimator)


def test_the_columns_of_largest_variance_stay_in_their_order() -> None:
    X = np.array([[0.0, 10, 5, 1], [1, -10, 5, 2], [0, 10, 5, 9]])
    assert TopKVariance(2).fit(X).get_support().tolist() == [False, True, False, True]
    assert TopKVariance(2, criterion="sumsq").fit(X).get_support().tolist() == [False, True, False, True]
    assert TopKVariance(1, criterion="sumsq").fit([[3.0, 0], [3, 1]]).get_support().tolist() == [True, False]
    assert TopKVariance(1).fit([[3.0, 0], [3, 1]]).get_support().tolist() == [False, True]


def test_ties_go_to_the_left_and_sparse_agrees_with_dense() -> None:
    assert TopKVariance(1).fit(np.ones((4, 3))).get_support().tolist() == [True, False, False]
    X = np.random.default_rng(0).standard_normal((20, 6)) * (np.arange(6) + 1)
    X[X < 0.3] = 0
    for estimator in (TopKVariance(3), ZeroMeanScaler()):
        dense = estimator.fit_transform(X)
        np.testing.assert_allclose(estimator.fit_transform(sparse.csr_matrix(X)).toarray(), dense)


def test_the_scaler_divides_by_the_root_mean_square_and_leaves_zeros() -> None:
    X = np.array([[3.0, 0], [4, 0]])
    np.testing.assert_allclose(ZeroMeanScaler().fit_transform(X), [[3 / np.sqrt(12.5), 0], [4 / np.sqrt(12.5), 0]])


def test_rare_unseen_and_missing_categories() -> None:
    X = pd.DataFrame({"a": ["x"] * 4 + ["y"] * 2 + [None] * 4})
    grouper = RareCategoryGrouper(3).fit(X)
    out = grouper.transform(pd.DataFrame({"a": ["x", "y", "z", None, np.nan]}))[:, 0]
    assert list(out[:3]) == ["x", "__rare__", "__rare__"]
    assert all(value is None or value != value for value in out[3:])
    assert list(grouper.get_feature_names_out()) == ["a"]
    with pytest.raises(InputError, match="0 to 1"):
        RareCategoryGrouper(min_frequency=3).fit(X)


def test_categories_predict_their_mean_and_rare_ones_the_default() -> None:
    model = CategoryMeanRegressor(default=9.0).fit([["a"], ["a"], ["__rare__"]], [1.0, 3, 100])
    np.testing.assert_allclose(model.predict([["a"], ["__rare__"], ["b"]]), [2.0, 9, 9])
