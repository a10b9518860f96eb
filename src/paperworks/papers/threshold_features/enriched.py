"""ThresholdEnrichedRegressor: any regressor on the enriched table, with the target transformed as in the paper and given back.

n rows, d columns, S thresholds.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.linear_model import LinearRegression
from sklearn.utils import get_tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, has_fit_parameter

from paperworks.errors import InputError
from paperworks.papers.threshold_features import distribution
from paperworks.papers.threshold_features.engines import fit_weighted
from paperworks.papers.threshold_features.features import ThresholdFeatures, check_target
from paperworks.papers.threshold_features.monotone import rising_rows
from paperworks.papers.threshold_features.target import MinMaxBoxCox


class ThresholdEnrichedRegressor(RegressorMixin, BaseEstimator):
    """A regressor that also sees P(y <= t_i | x) for S thresholds.

    fit(X (n, d), y (n,)); predict(X) -> (n,) in the unit of y.

    regressor: any scikit-learn regressor; None: LinearRegression.
    features: a ThresholdFeatures (or None for its defaults); its thresholds are values of y, not of the transformed y.
    target_transform: 'box-cox' (the paper's: MinMaxBoxCox), None, or a transformer with inverse_transform. Predictions are always
        transformed back. With a transformation a regressor that minimises squared error predicts nearer to the median than to the mean.
    random_state: for features and regressor whose own is None.

    sample_weight goes to the classifiers, and to the regressor when it takes weights. With scikit-learn's metadata routing enabled,
    `features` and `regressor` are routed as set by their set_fit_request.

    Attributes: features_, regressor_, target_ (fitted transformer or None), thresholds_ (S,), knots_ (S + 2,), n_features_in_.

    >>> X = np.linspace(0, 6, 300).reshape(-1, 1)
    >>> y = np.sin(X[:, 0])
    >>> model = ThresholdEnrichedRegressor(target_transform=None, random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.98 > LinearRegression().fit(X, y).score(X, y))
    True
    """

    def __init__(
        self,
        regressor: Any = None,
        features: ThresholdFeatures | None = None,
        *,
        target_transform: Any | Literal["box-cox"] | None = "box-cox",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.regressor = regressor
        self.features = features
        self.target_transform = target_transform
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None, **fit_params: Any) -> Self:
        """Learn from X (n, d), y (n,); sample_weight (n,). fit_params are metadata to be routed."""
        from sklearn import get_config

        if y is None:
            raise InputError("ThresholdEnrichedRegressor requires y to be passed, but the target y is None")
        y = check_target(y)
        features, regressor = self._parts()
        checked, _ = features._validate(X, y)  # tells early, and remembers the columns
        self.n_features_in_ = features.n_features_in_
        if hasattr(features, "feature_names_in_"):
            self.feature_names_in_ = features.feature_names_in_
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, checked, ensure_non_negative=True)
        self.target_ = self._target()
        wanted = y
        if self.target_ is not None:
            self.target_.fit(y.reshape(-1, 1))
            wanted = np.asarray(self.target_.transform(y.reshape(-1, 1)), dtype=float).ravel()
        if get_config()["enable_metadata_routing"]:
            routed = process_routing(self, "fit", sample_weight=sample_weight, **fit_params)
            table = features.fit_transform(X, y, **routed.features.fit_transform)
            self.regressor_ = regressor.fit(table, wanted, **routed.regressor.fit)
        else:
            if fit_params:
                raise InputError(
                    f"fit got {', '.join(fit_params)}; enable it by sklearn.set_config(enable_metadata_routing=True)"
                )
            table = features.fit_transform(X, y, sample_weight)
            weighted = sample_weight is not None and _takes_weights(regressor)
            self.regressor_ = fit_weighted(regressor, table, wanted, sample_weight if weighted else None)
        self.features_ = features
        self.thresholds_ = features.thresholds_
        self.knots_ = np.concatenate([[y.min()], self.thresholds_, [y.max()]])
        return self

    def _parts(self) -> tuple[ThresholdFeatures, Any]:
        features = ThresholdFeatures() if self.features is None else self.features
        if not isinstance(features, ThresholdFeatures):
            raise InputError(f"features must be a ThresholdFeatures, got {type(features).__name__}")
        features = clone(features).set_output(transform="default")
        regressor = LinearRegression() if self.regressor is None else self.regressor
        if isinstance(regressor, type) or not hasattr(regressor, "fit") or not hasattr(regressor, "predict"):
            raise InputError(f"regressor must be a scikit-learn regressor object, got {regressor!r}")
        regressor = clone(regressor)
        if self.random_state is not None:
            from sklearn.utils import check_random_state

            random = check_random_state(self.random_state)
            for part in (features, regressor):
                seed = int(random.randint(2**31 - 1))
                names = [name for name, value in part.get_params(deep=True).items() if value is None]
                part.set_params(**{name: seed for name in names if name.split("__")[-1] == "random_state"})
        return features, regressor

    def _target(self) -> Any:
        if self.target_transform is None:
            return None
        if isinstance(self.target_transform, str):
            if self.target_transform != "box-cox":
                raise InputError(
                    f"target_transform must be 'box-cox', None or a transformer, got {self.target_transform!r}"
                )
            return MinMaxBoxCox()
        if not hasattr(self.target_transform, "inverse_transform"):
            raise InputError("target_transform needs inverse_transform: predictions are given back in the unit of y")
        return clone(self.target_transform)

    def predict(self, X: Any) -> np.ndarray:
        """X (n, d) -> (n,) in the unit of y."""
        check_is_fitted(self)
        values = np.asarray(self.regressor_.predict(self.features_.transform(X)), dtype=float)
        if self.target_ is None:
            return values.reshape(-1)
        return np.asarray(self.target_.inverse_transform(values.reshape(-1, 1))).ravel()

    def _F(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return distribution.with_ends(rising_rows(self.features_.predict_cdf(X)))

    def predict_cdf(self, X: Any, at: Any = None) -> np.ndarray:
        """P(y <= a | x) by the classifiers for values `at` (m,), by default the thresholds: X (n, d) -> (n, m)."""
        F = self._F(X)
        if at is None:
            return F[:, 1:-1]
        places = np.atleast_1d(np.asarray(at, dtype=float))
        return np.column_stack([distribution.at(F, self.knots_, np.full(len(F), place)) for place in places])

    def predict_quantile(self, X: Any, q: Any = 0.5) -> np.ndarray:
        """Quantiles by the classifiers: X (n, d) -> (n,) for one level q, (n, m) for several; unit of y."""
        levels = distribution.check_levels(q)
        F = self._F(X)
        out = distribution.quantiles(F, self.knots_, np.tile(levels, (len(F), 1)))
        return out[:, 0] if np.ndim(q) == 0 else out

    def get_metadata_routing(self) -> MetadataRouter:
        """Where metadata given to fit goes: to `features` and to `regressor`."""
        features = ThresholdFeatures() if self.features is None else self.features
        regressor = LinearRegression() if self.regressor is None else self.regressor
        return (
            MetadataRouter(owner=self)
            .add_self_request(self)
            .add(features=features, method_mapping=MethodMapping().add(caller="fit", callee="fit_transform"))
            .add(regressor=regressor, method_mapping=MethodMapping().add(caller="fit", callee="fit"))
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        features = ThresholdFeatures() if self.features is None else self.features
        regressor = LinearRegression() if self.regressor is None else self.regressor
        try:
            first, second = features.__sklearn_tags__().input_tags, get_tags(regressor).input_tags
        except (AttributeError, TypeError):  # fit says what is wrong with them
            return tags
        tags.input_tags.sparse = first.sparse and second.sparse
        tags.input_tags.allow_nan = first.allow_nan and second.allow_nan
        return tags


def _takes_weights(regressor: Any) -> bool:
    last = regressor.steps[-1][1] if hasattr(regressor, "steps") else regressor
    return bool(has_fit_parameter(last, "sample_weight"))
