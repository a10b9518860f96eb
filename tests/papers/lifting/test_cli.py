"""The commands say what the library says."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from paperworks.errors import InputError
from paperworks.papers.lifting import toy
from paperworks.papers.lifting.cli import app


def test_certify_reads_files_and_names_the_order(tmp_path) -> None:
    A, b, _ = toy.perturbed_matrix_completion(3)
    np.savez(tmp_path / "instance.npz", A=np.stack([A.adjoint(row) for row in np.eye(A.m)]), b=b)
    np.save(tmp_path / "x.npy", toy.wrong_minima(3)[0])
    done = CliRunner().invoke(app, ["certify", str(tmp_path / "instance.npz"), str(tmp_path / "x.npy")])
    assert done.exit_code == 0
    assert "escapable" in done.output
    assert done.output.strip().endswith("5")
    missing = CliRunner().invoke(app, ["certify", str(tmp_path / "none.npz"), str(tmp_path / "x.npy")])
    assert isinstance(missing.exception, InputError)
    with pytest.raises(InputError, match="cannot read A and b"):
        raise missing.exception


def test_bench_counts_successes() -> None:
    done = CliRunner().invoke(app, ["bench", "--n", "11", "--trials", "2"])
    assert done.exit_code == 0
    assert "escape            2 of 2" in done.output
