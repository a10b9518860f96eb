"""Recover a low-rank matrix although many of its measurements are grossly wrong; neither rank nor penalty is chosen.

`subgm` takes any linear measurements.

    from paperworks.subgm import subgm, toy

    problem = toy.sensing(d=20, rank=2, m=1200, corrupt=0.5)
    result = subgm(problem.operator, problem.y)
    print(result.rank, problem.error(result.matrix))
"""

from paperworks.papers.subgm.solver import SubGMResult, subgm

__all__ = ["SubGMResult", "subgm"]
