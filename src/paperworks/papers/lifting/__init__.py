"""Tell whether a stuck low-rank solution is wrong, and leave it: certificates, an escaping solver, and the paper's lifted search.

min ||A(X X^T) - b||^2 / 2 over X (n, r) has wrong local minima. Lifted to tensors of order l they stay stationary but become strict saddles
from some l on; that l and the direction are known in closed form, and a hop along the direction in the space of X leaves them.

    from paperworks.lifting import EscapingMatrixSensing, escape_certificate, toy

    A, b, truth = toy.perturbed_matrix_completion(11, eps=0.1)
    est = EscapingMatrixSensing(rank=1, random_state=0).fit(A, b)
    print(est.hops_, est.loss_, escape_certificate(est.factor_, A, b).verdict)
"""

from paperworks.papers.lifting.base import BaseProblem
from paperworks.papers.lifting.certificate import EscapeCertificate, escape_certificate, minimal_lifting_order
from paperworks.papers.lifting.cp import CPProblem
from paperworks.papers.lifting.operators import (
    DenseOperator,
    EntryOperator,
    FunctionOperator,
    Operator,
    VecOperator,
    VectorOperator,
    as_operator,
    completion,
)
from paperworks.papers.lifting.solvers import BurerMonteiro, EscapingMatrixSensing, LiftedMatrixSensing
from paperworks.papers.lifting.study import SuccessRate, descent_success, search_success
from paperworks.papers.lifting.tensor import TensorProblem, drop, lift
from paperworks.papers.lifting.toy import gaussian_sensing, perturbed_matrix_completion

__all__ = [
    "BaseProblem",
    "BurerMonteiro",
    "CPProblem",
    "DenseOperator",
    "EntryOperator",
    "EscapeCertificate",
    "EscapingMatrixSensing",
    "FunctionOperator",
    "LiftedMatrixSensing",
    "Operator",
    "SuccessRate",
    "TensorProblem",
    "VecOperator",
    "VectorOperator",
    "as_operator",
    "completion",
    "descent_success",
    "drop",
    "escape_certificate",
    "gaussian_sensing",
    "lift",
    "minimal_lifting_order",
    "perturbed_matrix_completion",
    "search_success",
]
