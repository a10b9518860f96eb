"""Turn a numeric target into S threshold questions "is y <= t_i?", and give a regressor the answers as columns.

A classifier is trained on each question, and its probability P(y <= t_i | x) is appended to the table. Weak or interpretable
regressors (linear, shallow trees) gain much, forests and boosting little. The probabilities together are a distribution of y given x:
quantiles, intervals and CRPS come with it. Training rows get probabilities from classifiers that did not see them (the paper's own,
in-sample, are there as probabilities='insample').

>>> from sklearn.linear_model import LinearRegression
>>> from sklearn.pipeline import make_pipeline
>>> from paperworks.threshold_features import ThresholdFeatures, toy
>>> X, y = toy.steps(400, seed=1)
>>> X_new, y_new = toy.steps(400, seed=2)
>>> plain = LinearRegression().fit(X, y)
>>> enriched = make_pipeline(ThresholdFeatures(random_state=0), LinearRegression()).fit(X, y)
>>> bool(enriched.score(X_new, y_new) > plain.score(X_new, y_new) + 0.1)
True
"""

from paperworks.papers.threshold_features import toy
from paperworks.papers.threshold_features.cdf import ConditionalCDFRegressor
from paperworks.papers.threshold_features.compare import Comparison, choose_n_thresholds, compare_enrichment
from paperworks.papers.threshold_features.engines import ClassifierError
from paperworks.papers.threshold_features.enriched import ThresholdEnrichedRegressor
from paperworks.papers.threshold_features.features import ThresholdFeatures
from paperworks.papers.threshold_features.forest import LeafDistribution
from paperworks.papers.threshold_features.monotone import rising_rows
from paperworks.papers.threshold_features.target import MinMaxBoxCox
from paperworks.papers.threshold_features.thresholds import choose_thresholds

__all__ = [
    "ClassifierError",
    "Comparison",
    "ConditionalCDFRegressor",
    "LeafDistribution",
    "MinMaxBoxCox",
    "ThresholdEnrichedRegressor",
    "ThresholdFeatures",
    "choose_n_thresholds",
    "choose_thresholds",
    "compare_enrichment",
    "rising_rows",
    "toy",
]
