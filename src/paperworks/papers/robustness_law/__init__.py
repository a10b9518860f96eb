"""How sensitive is a model to small changes of its input, what does its size allow, and would width or another activation help?

Exact sensitivities of random features and tangent kernels without building the features, their limits at infinite width, predictions beside
measurements; and a report on any trained scikit-learn or torch model: sensitivity, radii found by search and certified, advice and limits.

    import numpy as np
    from paperworks.robustness_law import NTKRegressor, toy

    X, y, Z = toy.gaussian(np.random.default_rng(0), n=100, d=200)
    for activation in ("tanh", "square"):
        for width in (15, 300):
            model = NTKRegressor(width, activation).fit(X, y)
            print(activation, width, np.median(model.sensitivity(Z)))  # only the even activation gains from width
"""

from paperworks.papers.robustness_law import toy
from paperworks.papers.robustness_law.activations import Activation, activation, custom, parity_index
from paperworks.papers.robustness_law.advisor import Advice, advise_activation
from paperworks.papers.robustness_law.certify import certified_radius, layers_of
from paperworks.papers.robustness_law.curves import SensitivityCurve, sensitivity_curve
from paperworks.papers.robustness_law.decomposition import Interaction, interaction, interaction_matrix
from paperworks.papers.robustness_law.law import effective_dimension, law_of_robustness
from paperworks.papers.robustness_law.models import NTKRegressor, RandomFeatures
from paperworks.papers.robustness_law.networks import sensitivity
from paperworks.papers.robustness_law.penalty import SensitivityMonitor, sensitivity_penalty
from paperworks.papers.robustness_law.report import RobustnessReport, robustness_report
from paperworks.papers.robustness_law.theory import paper_bounds, predicted_sensitivity
from paperworks.papers.robustness_law.words import compare

__all__ = [
    "Activation",
    "Advice",
    "Interaction",
    "NTKRegressor",
    "RandomFeatures",
    "RobustnessReport",
    "SensitivityCurve",
    "SensitivityMonitor",
    "activation",
    "advise_activation",
    "certified_radius",
    "compare",
    "custom",
    "effective_dimension",
    "interaction",
    "interaction_matrix",
    "law_of_robustness",
    "layers_of",
    "paper_bounds",
    "parity_index",
    "predicted_sensitivity",
    "robustness_report",
    "sensitivity",
    "sensitivity_curve",
    "sensitivity_penalty",
    "toy",
]
