"""ThresholdFeatures: what it gives to training rows and to new rows, by every engine; scikit-learn's rules; bad input."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from paperworks.errors import InputError
from paperworks.papers.threshold_features import (
    ClassifierError,
    ConditionalCDFRegressor,
    LeafDistribution,
    MinMaxBoxCox,
    ThresholdEnrichedRegressor,
    ThresholdFeatures,
    reference,
    toy,
)

BOOTSTRAP = "rows are drawn with replacement, so a weight of two is not the same as two rows; so it is for scikit-learn's forests"


def _expected_to_fail(estimator: Any) -> dict[str, str]:
    if isinstance(estimator, MinMaxBoxCox) or getattr(estimator, "probabilities", "") == "insample":
        return {}
    return {f"check_sample_weight_equivalence_on_{kind}_data": BOOTSTRAP for kind in ("dense", "sparse")}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [
        ThresholdFeatures(4, random_state=0),
        ThresholdFeatures(3, classifier=LogisticRegression(), probabilities="insample"),
        ConditionalCDFRegressor(4, random_state=0),
        ThresholdEnrichedRegressor(features=ThresholdFeatures(4), random_state=0),
        MinMaxBoxCox(),
    ],
    expected_failed_checks=_expected_to_fail,
)
def test_scikit_learns_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def table() -> tuple[np.ndarray, np.ndarray]:
    return toy.steps(150, seed=3)


def test_in_sample_with_separate_forests_is_the_paper_line_by_line(table: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = table
    train, test = reference.features(X[:100], y[:100], X[100:], S=5, both=True, seed=7, n_trees=10)
    ours = ThresholdFeatures(
        5,
        classifier=RandomForestClassifier(10, random_state=7),
        probabilities="insample",
        multioutput=False,
        monotone=False,
        both_classes=True,
    )
    rows, new = ours.fit_transform(X[:100], y[:100]), ours.transform(X[100:])
    order = (
        [0, 1, 2, 3] + [4 + 2 * i + 1 for i in range(5)] + [4 + 2 * i for i in range(5)]
    )  # theirs: P(C=0), P(C=1), ...
    # 1e-15: ours computes P(C=0) as 1 - P(C=1)
    np.testing.assert_allclose(rows, train[:, order], atol=1e-15)
    np.testing.assert_allclose(new, test[:, order], atol=1e-15)
    np.testing.assert_allclose(rows[:, 4:9] + rows[:, 9:], 1)  # the second half says nothing new


def test_one_forest_with_many_outputs_gives_what_its_trees_say(table: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = table
    features = ThresholdFeatures(
        6, classifier=RandomForestClassifier(40, random_state=1, min_samples_leaf=3), monotone=False
    )
    rows = features.fit_transform(X, y)
    (forest,) = features.classifiers_
    said = np.column_stack([part[:, 1] for part in forest.predict_proba(X)])
    np.testing.assert_allclose(features.predict_cdf(X), said, atol=1e-12)  # sums of 40 shares
    forest.set_params(oob_score=True)
    left_out = clone(forest).fit(X, (y[:, None] <= features.thresholds_).astype(int)).oob_decision_function_[:, 1]
    np.testing.assert_allclose(rows[:, 4:], left_out, atol=1e-12)  # 40 trees: 150 x 0.63^40, no row is drawn by all


def test_the_default_forest_gives_shares_of_training_rows_weighted_by_their_leaves(
    table: tuple[np.ndarray, np.ndarray],
) -> None:
    """Meinshausen's weights, computed the slow way."""
    X, y = table
    features = ThresholdFeatures(7, random_state=0).fit(X, y)
    (forest,) = features.classifiers_
    leaves, new = forest.apply(X), forest.apply(X[:9] + 0.01)
    weights = np.zeros((9, len(y)))
    for t, drawn in enumerate(forest.estimators_samples_):
        times = np.bincount(drawn, minlength=len(y))
        for i in range(9):
            inside = (leaves[:, t] == new[i, t]) * times
            weights[i] += inside / inside.sum() / forest.n_estimators
    expected = weights @ (y[:, None] <= features.thresholds_)
    np.testing.assert_allclose(features.predict_cdf(X[:9] + 0.01), expected, atol=1e-12)


def test_leaves_of_another_forest_are_refused(table: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = table
    forest = RandomForestRegressor(3, random_state=0).fit(X, y)
    with pytest.raises(InputError, match="do not belong"):
        LeafDistribution.of(forest, forest.apply(X)[:, :2], np.zeros(len(y), dtype=int), 2)


@pytest.mark.parametrize("kind", ["oob", "cross_fit"])
def test_training_rows_get_other_values_than_new_rows(table: tuple[np.ndarray, np.ndarray], kind: Any) -> None:
    X, y = table
    features = ThresholdFeatures(8, probabilities=kind, random_state=0)
    rows = features.fit_transform(X, y)
    again = features.transform(X)
    np.testing.assert_array_equal(rows[:, :4], again[:, :4])
    below = y[:, None] <= features.thresholds_
    surprise_out, surprise_in = (np.abs(part[:, 4:] - below).mean() for part in (rows, again))
    assert surprise_in < 0.6 * surprise_out  # a row that was seen is answered far too well
    insample = ThresholdFeatures(8, probabilities="insample", random_state=0)
    np.testing.assert_array_equal(insample.fit_transform(X, y), insample.transform(X))
    np.testing.assert_array_equal(
        features.transform(X), ThresholdFeatures(8, probabilities=kind, random_state=0).fit(X, y).transform(X)
    )


@pytest.mark.parametrize(
    "options",
    [
        {"probabilities": "oob"},
        {"probabilities": "cross_fit"},
        {"classifier": GaussianNB()},
        {"calibrate": "isotonic"},
        {"labels": "inside"},
    ],
)
def test_nothing_is_learned_from_shuffled_y(options: dict[str, Any]) -> None:
    X, y = toy.steps(300, seed=5)
    y = np.random.default_rng(0).permutation(y)
    pipeline = make_pipeline(ThresholdFeatures(8, random_state=0, **options), LinearRegression())
    native = cross_val_score(LinearRegression(), X, y, cv=5).mean()
    assert cross_val_score(pipeline, X, y, cv=5).mean() < native + 0.02
    rows = pipeline[0].fit_transform(X, y)
    # 12 columns explain about 12 / 300 of pure noise by chance; three times that is far from a leak
    assert LinearRegression().fit(rows, y).score(rows, y) < 3 * rows.shape[1] / 300


def test_in_sample_a_regressor_believes_noise() -> None:
    X, y = toy.steps(300, seed=5)
    y = np.random.default_rng(0).permutation(y)
    pipeline = make_pipeline(ThresholdFeatures(8, probabilities="insample", random_state=0), LinearRegression())
    assert pipeline.fit(X, y).score(X, y) > 0.8
    assert cross_val_score(pipeline, X, y, cv=5).mean() <= 0


ENGINES = [
    None,
    RandomForestClassifier(20),
    ExtraTreesClassifier(20, bootstrap=True),
    HistGradientBoostingClassifier(max_iter=20),
    LogisticRegression(),
    GaussianNB(),
    LinearSVC(),
    LinearDiscriminantAnalysis(),
    KNeighborsClassifier(10),
    DecisionTreeClassifier(max_depth=4),
    CalibratedClassifierCV(LinearSVC(), ensemble=False),
    make_pipeline(StandardScaler(), LogisticRegression()),
]


@pytest.mark.parametrize("classifier", ENGINES, ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("multioutput", [True, False])
def test_any_classifier_gives_rising_probabilities_that_help(classifier: Any, multioutput: bool) -> None:
    (X, y), (X_new, y_new) = toy.steps(300, seed=1), toy.steps(300, seed=2)
    features = ThresholdFeatures(6, classifier=classifier, multioutput=multioutput, cv=3, random_state=0)
    rows, new = features.fit_transform(X, y), features.transform(X_new)
    for part in (rows[:, 4:], new[:, 4:]):
        assert part.shape == (300, 6)
        assert (np.diff(part, axis=1) >= 0).all()
        assert part.min() >= 0
        assert part.max() <= 1
    assert len(features.classifiers_) in (1, 6)
    native = LinearRegression().fit(X, y).score(X_new, y_new)
    assert LinearRegression().fit(rows, y).score(new, y_new) > native - 0.02


def test_a_classifier_without_probabilities_is_named_with_the_way_out() -> None:
    X, y = toy.steps(40)
    with pytest.raises(TypeError, match=r"NearestCentroid has neither.*CalibratedClassifierCV") as caught:
        ThresholdFeatures(3, classifier=_Mute()).fit(X, y)
    assert isinstance(caught.value, ClassifierError)
    for wrong in (LinearRegression(), RandomForestClassifier, "forest"):
        with pytest.raises(TypeError, match="classifier must be"):
            ThresholdFeatures(3, classifier=wrong).fit(X, y)


class _Mute(NearestCentroid):  # newer releases of scikit-learn gave NearestCentroid probabilities
    predict_proba = property()  # type: ignore[assignment]
    decision_function = property()  # type: ignore[assignment]


_Mute.__name__ = "NearestCentroid"


class _Answers(GaussianNB):
    """Says P(1) = 0.9 for low and 0.1 for high thresholds: the wrong way round."""

    def predict_proba(self, X: Any) -> np.ndarray:
        share = 1 - self.class_prior_[-1]
        return np.tile([1 - share, share], (len(X), 1))


def test_answers_that_fall_are_repaired_or_left() -> None:
    X, y = toy.steps(100)
    fallen = (
        ThresholdFeatures(5, classifier=_Answers(), monotone=False, probabilities="insample").fit(X, y).predict_cdf(X)
    )
    assert (np.diff(fallen, axis=1) < 0).all()
    repaired = ThresholdFeatures(5, classifier=_Answers(), probabilities="insample").fit(X, y).predict_cdf(X)
    np.testing.assert_allclose(repaired, fallen.mean(axis=1, keepdims=True).repeat(5, axis=1))


def test_inside_gives_the_mass_of_each_interval() -> None:
    X, y = toy.steps(120)
    features = ThresholdFeatures(4, labels="inside", passthrough=False, random_state=0)
    rows = features.fit_transform(X, y)
    assert rows.shape == (120, 5)
    np.testing.assert_allclose(rows.sum(axis=1), 1)
    np.testing.assert_allclose(features.transform(X), features.classifiers_[0].predict_proba(X), atol=1e-12)
    assert next(iter(features.get_feature_names_out())).startswith("P(-inf<y<=")


def test_calibration_brings_shares_and_probabilities_together() -> None:
    (X, y), (X_new, y_new) = toy.steps(600, noise=1.0, seed=1), toy.steps(3000, noise=1.0, seed=2)
    errors = {}
    for calibrate in (False, "sigmoid", "isotonic"):
        features = ThresholdFeatures(
            5, classifier=GaussianNB(var_smoothing=1e-9), calibrate=calibrate, random_state=0
        ).fit(X, y)  # type: ignore[arg-type]
        P, below = features.predict_cdf(X_new), y_new[:, None] <= features.thresholds_
        errors[calibrate] = float(np.mean((P - below) ** 2))
    assert errors["sigmoid"] < errors[False]
    assert errors["isotonic"] < errors[False] + 0.005
    with pytest.raises(InputError, match="out of fold"):
        ThresholdFeatures(4, calibrate=True, probabilities="insample").fit(X, y)


def test_names_frames_and_grid_search(table: tuple[np.ndarray, np.ndarray]) -> None:
    pd = pytest.importorskip("pandas")
    X, y = table
    frame = pd.DataFrame(X, columns=list("abcd"), index=np.arange(150) + 5)
    features = ThresholdFeatures([0.0, 1.0, 12.5], strategy=[-0.5, 0.25, 1], random_state=0).set_output(
        transform="pandas"
    )  # type: ignore[arg-type]
    rows = features.fit_transform(frame, pd.Series(y, index=frame.index))
    assert list(rows.columns) == ["a", "b", "c", "d", "P(y<=-0.5)", "P(y<=0.25)", "P(y<=1)"]
    assert list(rows.index) == list(frame.index)
    assert list(features.transform(frame.iloc[:3]).columns) == list(rows.columns)
    near = ThresholdFeatures(strategy=[0.1000001, 0.1000002], random_state=0).fit(X, y)
    assert len(set(near.get_feature_names_out())) == 6
    search = GridSearchCV(
        make_pipeline(ThresholdFeatures(random_state=0), LinearRegression()),
        {"thresholdfeatures__n_thresholds": [1, 8], "thresholdfeatures__passthrough": [True, False]},
        cv=3,
    ).fit(X, y)
    assert search.best_params_["thresholdfeatures__n_thresholds"] == 8


def test_sparse_tables_stay_sparse(table: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = table
    X = np.where(X > 0.3, X, 0.0)
    for classifier in (None, LogisticRegression(), RandomForestClassifier(20)):
        features = ThresholdFeatures(4, classifier=classifier, cv=3, random_state=0)
        rows = features.fit_transform(sparse.csr_matrix(X), y)
        assert sparse.issparse(rows)
        # a forest may break ties between equally good splits otherwise, which moves single trees
        difference = np.abs(rows.toarray() - clone(features).fit_transform(X, y))
        assert difference.mean() < (1e-6 if isinstance(classifier, LogisticRegression) else 0.005)
        assert sparse.issparse(features.transform(sparse.csc_matrix(X)))
    with pytest.raises(TypeError, match=r"[Ss]parse"):
        ThresholdFeatures(4, classifier=HistGradientBoostingClassifier()).fit(sparse.csr_matrix(X), y)


def test_missing_values_pass_where_the_classifier_takes_them(table: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = table
    X = X.copy()
    X[::7, 0] = np.nan
    for classifier in (None, HistGradientBoostingClassifier(max_iter=5)):
        assert np.isfinite(ThresholdFeatures(3, classifier=classifier, passthrough=False).fit_transform(X, y)).all()
    with pytest.raises(ValueError, match="NaN"):
        ThresholdFeatures(3, classifier=LogisticRegression()).fit(X, y)


@pytest.mark.parametrize(
    "options", [{}, {"probabilities": "cross_fit"}, {"classifier": RandomForestClassifier(8), "multioutput": False}]
)
def test_the_number_of_jobs_changes_nothing(table: tuple[np.ndarray, np.ndarray], options: dict[str, Any]) -> None:
    X, y = table
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # eight trees leave some rows without an out-of-bag answer
        one, two = (ThresholdFeatures(4, n_jobs=n, random_state=0, **options) for n in (1, 2))
        np.testing.assert_array_equal(one.fit_transform(X, y), two.fit_transform(X, y))
        np.testing.assert_array_equal(one.transform(X), two.transform(X))


def test_weights_reach_the_classifiers(table: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = table
    flat = np.zeros((len(y), 1))  # nothing to split on: P is the weighted share
    weight = np.where(y > 0, 5.0, 1.0)
    for classifier in (None, RandomForestClassifier(300), LogisticRegression()):
        features = ThresholdFeatures(strategy=[0.0], classifier=classifier, passthrough=False, random_state=0)
        heavy = features.fit(flat, y, sample_weight=weight).predict_cdf(flat[:1])[0, 0]
        light = features.fit(flat, y).predict_cdf(flat[:1])[0, 0]
        # 300 and 100 bootstraps of 150 rows: a standard error well below 0.01
        assert heavy == pytest.approx(np.average(y <= 0, weights=weight), abs=0.03)
        assert light == pytest.approx(np.mean(y <= 0), abs=0.03)
    with pytest.raises(TypeError, match="sample_weight"):
        ThresholdFeatures(2, classifier=KNeighborsClassifier(3)).fit(X, y, sample_weight=weight)


def test_groups_stay_together(table: tuple[np.ndarray, np.ndarray]) -> None:
    _X, _y = table
    groups = np.arange(150) // 10
    code = np.column_stack([groups, groups % 7])  # a group's rows are alike; the whole group has one value
    value = np.random.default_rng(0).standard_normal(15)[groups]
    apart = ThresholdFeatures(4, probabilities="cross_fit", cv=GroupKFold(5), passthrough=False, random_state=0)
    together = ThresholdFeatures(4, probabilities="cross_fit", cv=5, passthrough=False, random_state=0)
    below = value[:, None] <= apart.fit(code, value, groups=groups).thresholds_
    assert np.abs(together.fit_transform(code, value) - below).mean() < 0.05  # knows the group already
    assert np.abs(apart.fit_transform(code, value, groups=groups) - below).mean() > 0.2


def test_constant_y_gives_x_back_with_a_warning() -> None:
    X = np.arange(12.0).reshape(6, 2)
    with pytest.warns(UserWarning, match="no threshold"):
        features = ThresholdFeatures().fit(X, np.ones(6))
    np.testing.assert_array_equal(features.transform(X), X)
    assert list(features.get_feature_names_out()) == ["x0", "x1"]


def test_few_distinct_values_name_their_thresholds() -> None:
    X, y = toy.steps(90)
    features = ThresholdFeatures(32, random_state=0).fit(X, np.repeat([3.0, 5.0, 6.0], 30))
    assert list(features.get_feature_names_out()[4:]) == ["P(y<=4)", "P(y<=5.5)"]
    assert ThresholdFeatures(1, random_state=0).fit_transform(X, y).shape == (90, 5)


@pytest.mark.parametrize(
    "classifier",
    [
        LogisticRegression(),
        RandomForestClassifier(5),
        KNeighborsClassifier(2),
        HistGradientBoostingClassifier(max_iter=2),
    ],
    ids=lambda c: type(c).__name__,
)
def test_a_class_that_a_fold_lacks_becomes_a_constant(classifier: Any) -> None:
    X, _ = toy.steps(30)
    y = np.zeros(30)
    y[17] = 1.0  # the only row above the threshold: four folds of five train on both classes, one does not
    rows = ThresholdFeatures(
        strategy=[0.5], classifier=classifier, probabilities="cross_fit", passthrough=False, random_state=0
    ).fit_transform(X, y)
    assert rows[17, 0] == 1.0
    many = ThresholdFeatures(
        strategy=[0.2, 0.5], classifier=classifier, probabilities="cross_fit", passthrough=False, random_state=0
    )
    y[3] = 0.3
    assert np.isfinite(many.fit_transform(X, y)).all()


def test_rows_that_every_tree_drew_are_filled_and_counted() -> None:
    X, y = toy.steps(40)
    for classifier, labels in ((RandomForestClassifier(2), "below"), (RandomForestClassifier(2), "inside")):
        for multioutput in (True, False):
            features = ThresholdFeatures(
                3, classifier=classifier, labels=labels, multioutput=multioutput, random_state=0
            )  # type: ignore[arg-type]
            with pytest.warns(UserWarning, match=r"\d+ of 40 rows were drawn by every tree"):
                rows = features.fit_transform(X, y)
            assert np.isfinite(rows).all()


def test_bad_input_is_refused_with_the_reason() -> None:
    X, y = toy.steps(20)
    with pytest.raises(ValueError, match="cv=5 folds of n_samples=3"):
        ThresholdFeatures(2, probabilities="cross_fit").fit(X[:3], y[:3])
    with pytest.raises(ValueError, match="2 columns"):
        ThresholdFeatures().fit(X, np.column_stack([y, y]))
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="NaN or infinity \\(1 of 20"):
            ThresholdFeatures().fit(X, np.where(np.arange(20) == 4, bad, y))
    with pytest.raises(ValueError, match="must hold numbers, got texts"):
        ThresholdFeatures().fit(X, np.array(["a", "b"] * 10))
    with pytest.raises(ValueError, match="requires y"):
        ThresholdFeatures().fit(X, None)
    with pytest.raises(InputError, match="needs a forest"):
        ThresholdFeatures(2, classifier=GaussianNB(), probabilities="oob").fit(X, y)
    for name, value in (("probabilities", "magic"), ("labels", "above"), ("calibrate", "beta")):
        with pytest.raises(InputError, match=name):
            ThresholdFeatures(2, **{name: value}).fit(X, y)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="cv must be at least 2"):
        ThresholdFeatures(2, cv=1, probabilities="cross_fit").fit(X, y)


def test_amounts_with_many_zeros_are_split_at_zero() -> None:
    X, y = toy.many_zeros(300)
    features = ThresholdFeatures(8, random_state=0).fit(X, y)
    smallest = y[y > 0].min()
    assert features.thresholds_[0] == smallest / 2
    zero = features.predict_cdf(np.array([[-0.9, 0.0], [0.9, 0.0]]))[:, 0]
    assert zero[0] > 0.9
    assert zero[1] < 0.1
