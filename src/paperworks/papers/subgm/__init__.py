"""Recover a low-rank matrix although many of its measurements are grossly wrong; neither rank nor penalty is chosen.

For tables with wrong and missing cells, for linear measurements of a matrix, for phase retrieval.

    from paperworks.subgm import RobustPCA, toy

    seen, truth, wrong = toy.table(60, 40, rank=2, corrupt=0.2)
    model = RobustPCA().fit(seen)
    print(model.rank_, abs(model.low_rank_ - truth).max())
    print((model.outlier_mask_ == wrong).all())
"""

from paperworks.papers.subgm import toy, uses
from paperworks.papers.subgm.diagnostics import SignRIP, expected_length, sign_rip
from paperworks.papers.subgm.operators import (
    DenseOperator,
    EntryOperator,
    FlatOperator,
    ImplicitGaussian,
    Operator,
    QuadraticOperator,
    as_operator,
)
from paperworks.papers.subgm.sensing import MatrixSensing, robust_phase_retrieval
from paperworks.papers.subgm.solver import SubGMResult, subgm
from paperworks.papers.subgm.tables import RobustMatrixCompletion, RobustPCA, l1_scores

__all__ = [
    "DenseOperator",
    "EntryOperator",
    "FlatOperator",
    "ImplicitGaussian",
    "MatrixSensing",
    "Operator",
    "QuadraticOperator",
    "RobustMatrixCompletion",
    "RobustPCA",
    "SignRIP",
    "SubGMResult",
    "as_operator",
    "expected_length",
    "l1_scores",
    "robust_phase_retrieval",
    "sign_rip",
    "subgm",
    "toy",
    "uses",
]
