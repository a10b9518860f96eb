"""`paperworks lifting`: certify a stuck point from files, and compare ways of searching on the paper's family."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from paperworks.errors import InputError
from paperworks.papers.lifting.certificate import escape_certificate
from paperworks.papers.lifting.study import search_success
from paperworks.papers.lifting.toy import perturbed_matrix_completion
from paperworks.progress import terminal

app = typer.Typer(help="Wrong solutions of low-rank problems: certify them, leave them.", no_args_is_help=True)


@app.command()
def certify(
    instance: Annotated[Path, typer.Argument(help=".npz with A (m, n, n) or (m, n), and b (m,)")],
    point: Annotated[Path, typer.Argument(help=".npy with X (n,) or (n, r)")],
    refine: Annotated[bool, typer.Option(help="go to the stationary point beside X first")] = False,
) -> None:
    """Say whether a point is stationary, wrong, and from which order of lifting it can be left."""
    try:
        with np.load(instance, allow_pickle=False) as file:
            A, b = file["A"], file["b"]
        X = np.load(point, allow_pickle=False)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"cannot read A and b from {instance} and X from {point}: {error}") from error
    found = escape_certificate(X, A, b, refine=refine)
    typer.echo(f"verdict            {found.verdict}")
    typer.echo(f"loss               {found.loss:.6g}")
    typer.echo(f"relative gradient  {found.relative_gradient:.3g}")
    typer.echo(f"Hessian, smallest  {found.hess_min:.6g}")
    typer.echo(f"order to leave it  {found.min_order if found.min_order else 'none found'}")


@app.command()
def bench(
    n: Annotated[int, typer.Option(help="side of the matrix")] = 11,
    eps: Annotated[float, typer.Option(help="weight of the weak entries")] = 0.1,
    trials: Annotated[int, typer.Option(help="starts of each method")] = 20,
    seed: Annotated[int, typer.Option(help="seed of the starts")] = 0,
) -> None:
    """Success of plain search, escape, restarts and a wider search rank on perturbed matrix completion."""
    A, b, truth = perturbed_matrix_completion(n, eps)
    with terminal("bench") as progress:
        rates = search_success(A, b, truth, trials=trials, search_ranks=(2,), seed=seed, progress=progress)
    for rate in rates:
        typer.echo(f"{rate.method:<15}{rate.successes:>4} of {rate.trials}")
