"""How wrong is a cross-validated score whose scaler, PCA or rare-category grouping was fitted on all rows first?

The audit compares the naive score with the proper one, and with held-out rows, on your pipeline and data, with intervals and a
sentence. The simulations of the paper run in seconds. A linter finds the pattern in scripts and notebooks.

    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from paperworks.preprocessing_bias import TopKVariance, preprocessing_bias

    X, y = load_diabetes(return_X_y=True)
    report = preprocessing_bias(make_pipeline(TopKVariance(4), LinearRegression()), X[:60], y[:60], n_repeats=5)
    print(report.sentence_)
"""

from paperworks.papers.preprocessing_bias.audit import assert_no_cv_bias, corrected_interval, preprocessing_bias
from paperworks.papers.preprocessing_bias.lint import Finding, audit_notebook, lint_source
from paperworks.papers.preprocessing_bias.report import PreprocessingBiasReport, StepShare
from paperworks.papers.preprocessing_bias.simulate import (
    SelectionResult,
    SimulationResult,
    cv_bias_simulation,
    model_selection_simulation,
)
from paperworks.papers.preprocessing_bias.transformers import (
    CategoryMeanRegressor,
    RareCategoryGrouper,
    TopKVariance,
    ZeroMeanScaler,
)

__all__ = [
    "CategoryMeanRegressor",
    "Finding",
    "PreprocessingBiasReport",
    "RareCategoryGrouper",
    "SelectionResult",
    "SimulationResult",
    "StepShare",
    "TopKVariance",
    "ZeroMeanScaler",
    "assert_no_cv_bias",
    "audit_notebook",
    "corrected_interval",
    "cv_bias_simulation",
    "lint_source",
    "model_selection_simulation",
    "preprocessing_bias",
]
