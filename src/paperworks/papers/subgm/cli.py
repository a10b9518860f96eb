"""`paperworks subgm clean` for a CSV file, `sense` for arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from paperworks.errors import InputError

app = typer.Typer(help="Recover low-rank tables and matrices in spite of gross errors.", no_args_is_help=True)


def read_table(path: Path, delimiter: str) -> tuple[list[str], np.ndarray]:
    """Header and numbers (n, p) of a CSV file; empty cells and 'nan' are missing."""
    import csv

    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file, delimiter=delimiter) if row]
    if len(rows) < 2:
        raise InputError(f"{path} holds {len(rows)} lines; a header and at least one row are needed")
    table = np.full((len(rows) - 1, len(rows[0])), np.nan)
    for i, row in enumerate(rows[1:]):
        if len(row) != len(rows[0]):
            raise InputError(f"{path}, line {i + 2}: {len(row)} cells where the header has {len(rows[0])}")
        for j, cell in enumerate(row):
            try:
                table[i, j] = float(cell) if cell.strip() else np.nan
            except ValueError:
                raise InputError(
                    f"{path}, line {i + 2}, column {rows[0][j]!r}: {cell!r} is not a number; drop text columns first"
                ) from None
    return rows[0], table


@app.command()
def clean(
    data: Annotated[Path, typer.Argument(help="CSV with a header line; numbers, empty cells are missing.")],
    out: Annotated[Path, typer.Option(help="Where to write the mended table.")],
    outliers: Annotated[Path | None, typer.Option(help="Where to write the mask, 1 for a wrong cell.")] = None,
    rank: Annotated[int | None, typer.Option(min=1, help="The rank, if you know it.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Write low-rank values for the good cells too.")] = False,
    center: Annotated[bool, typer.Option(help="Subtract the columns' medians first.")] = False,
    delimiter: Annotated[str, typer.Option(help="What stands between cells.")] = ",",
) -> None:
    """Replace wrong and missing cells of a table by what its low-rank part says."""
    from paperworks.papers.subgm.tables import RobustPCA

    header, table = read_table(data, delimiter)
    model = RobustPCA(rank, center=center).fit(table)
    mended = model.low_rank_ if everything else np.where(model.outlier_mask_ | np.isnan(table), model.low_rank_, table)
    line = delimiter.join(header)
    np.savetxt(out, mended, delimiter=delimiter, header=line, comments="", fmt="%.10g", encoding="utf-8")
    if outliers is not None:
        mask = model.outlier_mask_.astype(int)
        np.savetxt(outliers, mask, delimiter=delimiter, header=line, comments="", fmt="%d", encoding="utf-8")
    wrong = int(model.outlier_mask_.sum())
    typer.echo(f"rank {model.rank_}; {wrong} wrong and {int(np.isnan(table).sum())} missing cells of {table.size}")
    if not model.converged_:
        typer.echo(f"do not rely on it: {model.message_}", err=True)
        raise typer.Exit(1)


@app.command()
def sense(
    matrices: Annotated[
        Path, typer.Argument(help=".npy of (m, d, e) matrices or (m, d) vectors; or .npz of sparse rows.")
    ],
    y: Annotated[Path, typer.Argument(help=".npy of m values.")],
    out: Annotated[Path, typer.Option(help="Where to write the matrix, .npy.")],
    rank: Annotated[int | None, typer.Option(min=1, help="The rank, if you know it.")] = None,
    psd: Annotated[bool, typer.Option(help="Symmetric positive semidefinite, or any matrix.")] = True,
) -> None:
    """Recover a matrix from linear measurements."""
    from scipy import sparse

    from paperworks.papers.subgm.sensing import MatrixSensing

    measured = sparse.load_npz(matrices) if matrices.suffix == ".npz" else np.load(matrices, allow_pickle=False)
    model = MatrixSensing(rank, psd=psd).fit(measured, np.load(y, allow_pickle=False))
    np.save(out, model.matrix_)
    typer.echo(f"rank {model.rank_}; {int(model.outlier_mask_.sum())} wrong measurements of {model.outlier_mask_.size}")
    if not model.converged_:
        typer.echo(f"do not rely on it: {model.message_}", err=True)
        raise typer.Exit(1)
