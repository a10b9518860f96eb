"""The audit works on steps of skrub, category_encoders and scikit-learn's imputers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline

from paperworks.papers.preprocessing_bias import preprocessing_bias, toy

FEW = {"n_repeats": 1, "n_splits": 2}

# category_encoders asks pandas for an option that is going away
pytestmark = pytest.mark.filterwarnings("ignore:.*silent_downcasting")


def table() -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(0)
    X, y = toy.categories(rng, n=80, n_categories=6)
    return pd.DataFrame({"kind": X[:, 0], "size": rng.standard_normal(80) + y}), y


def test_skrub_tables_are_audited() -> None:
    skrub = pytest.importorskip("skrub", reason="skrub is not installed")
    X, y = table()
    report = preprocessing_bias(make_pipeline(skrub.TableVectorizer(), Ridge()), X, y, **FEW)
    assert report.outside_ == ("tablevectorizer",)
    assert report.verdict_ != "leak"
    assert report.proper_ > 0.2  # chance is below 0
    assert np.isfinite([report.gap_, report.bias_]).all()


def test_a_skrub_step_inside_scores_as_scikit_learn_says() -> None:
    skrub = pytest.importorskip("skrub", reason="skrub is not installed")
    X, y = table()
    model = make_pipeline(skrub.TableVectorizer(), Ridge())
    cv = KFold(4)
    expected = cross_val_score(clone(model), X, y, cv=cv).mean()
    assert preprocessing_bias(model, X, y, cv=cv, **FEW).proper_ == pytest.approx(expected, rel=1e-9)


def test_a_target_encoder_outside_is_a_leak() -> None:
    encoders = pytest.importorskip("category_encoders", reason="category_encoders is not installed")
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"kind": [f"k{i}" for i in rng.integers(0, 30, 90)]})
    y = rng.standard_normal(90)  # nothing to be known: any skill comes from the leak
    report = preprocessing_bias(
        make_pipeline(encoders.TargetEncoder(smoothing=1e-3, min_samples_leaf=1), Ridge(alpha=1e-6)),
        X,
        y,
        outside="all",
        **FEW,
    )
    assert report.leaking_ == ("targetencoder",)
    assert report.naive_ > report.proper_ + 0.2
    kept = preprocessing_bias(make_pipeline(encoders.TargetEncoder(), Ridge()), X, y, **FEW)
    assert kept.outside_ == ()
    assert kept.supervised_ == ("targetencoder",)


def test_a_count_encoder_outside_is_no_leak() -> None:
    encoders = pytest.importorskip("category_encoders", reason="category_encoders is not installed")
    X, y = table()
    report = preprocessing_bias(
        make_pipeline(encoders.CountEncoder(cols=["kind"]), Ridge()), X[["kind", "size"]], y, **FEW
    )
    assert report.outside_ == ("countencoder",)
    assert report.verdict_ != "leak"


@pytest.mark.parametrize("imputer", [SimpleImputer(), KNNImputer(n_neighbors=3)])
def test_imputers_are_audited(imputer: object) -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((80, 4))
    y = X @ np.arange(4.0)
    X[rng.random(X.shape) < 0.2] = np.nan
    report = preprocessing_bias(make_pipeline(imputer, Ridge()), X, y, **FEW)
    assert report.outside_ == (type(imputer).__name__.lower(),)
    assert np.isfinite([report.naive_, report.proper_, report.bias_]).all()
