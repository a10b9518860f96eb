"""The estimators keep scikit-learn's rules, find tables, outliers and matrices, and say what is wrong with bad input."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from typer.testing import CliRunner

from paperworks.errors import InputError
from paperworks.papers.subgm import (
    MatrixSensing,
    RobustMatrixCompletion,
    RobustPCA,
    l1_scores,
    robust_phase_retrieval,
    toy,
)
from paperworks.papers.subgm.cli import app


def but(estimator: object) -> dict[str, str]:
    if not isinstance(estimator, MatrixSensing):
        return {}
    names = ("check_estimator_sparse_tag", "check_estimator_sparse_array", "check_estimator_sparse_matrix")
    return dict.fromkeys(names, "a sparse array means flattened matrices (m, d*d)")


@pytest.mark.filterwarnings("ignore::UserWarning")
@parametrize_with_checks(
    [RobustPCA(max_iter=600), RobustMatrixCompletion(max_iter=600), MatrixSensing(max_iter=300, max_rounds=1)],
    expected_failed_checks=but,
)
def test_scikit_learns_checks(estimator, check) -> None:
    check(estimator)


def relative(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))


@pytest.mark.parametrize(("shape", "corrupt", "missing"), [((80, 60), 0.2, 0.0), ((60, 80), 0.1, 0.3)])
def test_a_table_is_taken_apart_without_a_rank(shape: tuple[int, int], corrupt: float, missing: float) -> None:
    seen, truth, wrong = toy.table(*shape, 2, corrupt, missing)
    before = seen.copy()
    model = RobustPCA().fit(seen)
    np.testing.assert_array_equal(seen, before)
    assert (model.rank_, model.converged_) == (2, True)
    assert relative(model.low_rank_, truth) < 1e-8  # tol 1e-9, times the sum of the last steps
    real = wrong & ~np.isnan(seen)
    assert (model.outlier_mask_ & ~real).sum() == 0
    assert model.outlier_mask_[real].mean() > 0.999
    np.testing.assert_allclose(model.sparse_[real], (seen - truth)[real], atol=1e-6)
    np.testing.assert_allclose(model.components_ @ model.components_.T, np.eye(2), atol=1e-10)
    # PCA on the same table, holes filled by 0, is off by far: the problem is not easy
    filled = np.nan_to_num(seen)
    pca = PCA(2).fit(filled)
    assert relative(pca.inverse_transform(pca.transform(filled)), truth) > 0.2


def test_new_rows_are_scored_in_spite_of_wrong_cells() -> None:
    seen, _, _ = toy.table(80, 60, 2, 0.1)
    model = RobustPCA().fit(seen)
    scores = np.array([[3.0, -2.0], [1.0, 5.0]])
    rows = model.inverse_transform(scores)
    rows[0, :10], rows[1, 5], rows[1, 6] = 100.0, np.nan, np.inf
    np.testing.assert_allclose(model.transform(rows), scores, atol=1e-6)


def test_l1_scores_are_the_median_for_one_constant_component() -> None:
    rows = np.array([[1.0, 2, 3, 4, 100], [5, 5, 5, -1, 9]])
    np.testing.assert_allclose(l1_scores(rows, np.ones((1, 5)))[:, 0], [3, 5], atol=1e-6)
    assert l1_scores(rows, np.zeros((0, 5))).shape == (2, 0)


def test_float32_stays_pandas_comes_out_and_pipelines_work() -> None:
    seen, truth, _ = toy.table(60, 40, 2, 0.1)
    model = RobustPCA().fit(seen.astype(np.float32))
    assert {a.dtype for a in (model.low_rank_, model.components_, model.transform(seen.astype(np.float32)))} == {
        np.dtype(np.float32)
    }
    assert relative(model.low_rank_, truth) < 1e-5
    frame = pd.DataFrame(seen, columns=[f"c{i}" for i in range(40)])
    out = RobustPCA(2).set_output(transform="pandas").fit_transform(frame)
    assert list(out.columns) == ["robustpca0", "robustpca1"]
    mended = RobustMatrixCompletion().set_output(transform="pandas").fit_transform(frame)
    assert list(mended.columns) == list(frame.columns)
    assert make_pipeline(StandardScaler(), RobustPCA(3, center=True)).fit_transform(seen).shape == (60, 3)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.low_rank_, model.low_rank_)


def test_infinite_cells_are_outliers_and_empty_columns_are_named() -> None:
    seen, truth, _ = toy.table(60, 40, 1, 0.0)
    seen[3, 4], seen[7, 8] = np.inf, -np.inf
    model = RobustPCA().fit(seen)
    assert np.argwhere(model.outlier_mask_).tolist() == [[3, 4], [7, 8]]
    assert relative(model.low_rank_, truth) < 1e-8
    seen[:, 5] = np.nan
    with pytest.warns(UserWarning, match="1 column"):
        model = RobustPCA().fit(seen)
    assert np.isfinite(model.low_rank_).all()
    with pytest.warns(UserWarning, match="rank 0"):
        nothing = RobustPCA().fit(np.zeros((6, 5)))
    assert nothing.rank_ == 0
    assert nothing.transform(np.ones((2, 5))).shape == (2, 0)
    with pytest.warns(UserWarning, match="above the smaller side"):
        RobustPCA(9).fit(toy.table(10, 5, 1, 0.0)[0])
    with pytest.raises(InputError, match="missing"):
        RobustPCA().fit(np.full((4, 4), np.nan))


def test_completion_replaces_what_it_is_asked_to() -> None:
    seen, truth, _ = toy.table(60, 60, 2, 0.1, 0.3)
    hole = np.isnan(seen)
    only = RobustMatrixCompletion(replace="missing").fit_transform(seen)
    np.testing.assert_array_equal(only[~hole], seen[~hole])
    np.testing.assert_allclose(only[hole], truth[hole], atol=1e-6)
    mended = RobustMatrixCompletion().fit(seen).transform(seen)
    np.testing.assert_allclose(mended, truth, atol=1e-3)
    with pytest.raises(InputError, match="replace"):
        RobustMatrixCompletion(replace="some").fit(seen)


def test_completion_of_a_sparse_table_gives_the_same_cells() -> None:
    seen, truth, wrong = toy.table(60, 60, 2, 0.1, 0.3)
    rows, cols = np.nonzero(~np.isnan(seen))
    stored = sparse.coo_array((seen[rows, cols], (rows, cols)), shape=seen.shape).tocsr()
    model = RobustMatrixCompletion().fit(stored)
    at = np.indices((60, 60)).reshape(2, -1)
    np.testing.assert_allclose(model.cells(*at), truth.ravel(), atol=1e-6)
    np.testing.assert_array_equal(model.outlier_mask_, wrong[rows, cols])
    np.testing.assert_allclose(model.transform(stored), truth, atol=1e-3)
    with pytest.raises(InputError, match="center"):
        RobustMatrixCompletion(center=True).fit(stored)


def test_digits_with_salt_come_out_cleaner_than_by_pca() -> None:
    from sklearn.datasets import load_digits

    digits = load_digits().data[:300]
    rng = np.random.default_rng(0)
    salted = np.where(rng.random(digits.shape) < 0.2, 16.0, digits)
    robust = RobustPCA(10).fit(salted).low_rank_
    pca = PCA(10).fit(salted)
    # digits are not of low rank, so most of both errors is what ten components leave out: 0.46 against 0.56 when last looked at
    assert relative(robust, digits) < relative(pca.inverse_transform(pca.transform(salted)), digits)


def test_sensing_finds_the_matrix_and_the_liars() -> None:
    problem = toy.sensing(d=12, rank=2, m=700, corrupt=0.3)
    A = np.stack([problem.operator.adjoint(row) for row in np.eye(700)])
    model = MatrixSensing().fit(A, problem.y)
    assert (model.rank_, model.converged_) == (2, True)
    assert problem.error(model.matrix_) < 1e-10
    np.testing.assert_array_equal(model.outlier_mask_, problem.wrong)
    fresh = toy.gaussian(50, 12, np.random.default_rng(5))
    np.testing.assert_allclose(model.predict(fresh), np.einsum("mij,ij->m", fresh, problem.truth), atol=1e-8)
    assert -1e-8 < model.score(fresh, model.predict(fresh)) <= 0
    flat = MatrixSensing(2).fit(sparse.csr_array(A.reshape(700, -1)), problem.y)
    np.testing.assert_allclose(flat.matrix_, model.matrix_, atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_phases_are_retrieved(seed: int) -> None:
    problem = toy.phase(d=15, m=300, corrupt=0.15, seed=seed)
    x = robust_phase_retrieval(problem.operator.vectors, problem.y)
    np.testing.assert_allclose(np.outer(x, x), problem.truth, atol=1e-9)
    assert x[np.abs(x).argmax()] > 0


def test_the_commands_mend_a_file_and_name_a_bad_cell(tmp_path) -> None:
    seen, truth, wrong = toy.table(40, 30, 1, 0.1, 0.1)
    frame = pd.DataFrame(seen, columns=[f"c{i}" for i in range(30)])
    frame.to_csv(tmp_path / "t.csv", index=False)
    command = [
        "clean",
        str(tmp_path / "t.csv"),
        "--out",
        str(tmp_path / "o.csv"),
        "--outliers",
        str(tmp_path / "m.csv"),
    ]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "rank 1" in done.output
    mended = pd.read_csv(tmp_path / "o.csv")
    assert list(mended.columns) == list(frame.columns)
    np.testing.assert_allclose(mended, truth, atol=1e-5)
    np.testing.assert_array_equal(pd.read_csv(tmp_path / "m.csv").to_numpy() == 1, wrong & ~np.isnan(seen))
    (tmp_path / "t.csv").write_text("a,b\n1,x\n")
    failed = CliRunner().invoke(app, command)
    assert isinstance(failed.exception, InputError)
    assert "line 2, column 'b'" in str(failed.exception)

    problem = toy.sensing(d=8, rank=1, m=200, corrupt=0.2)
    A = np.stack([problem.operator.adjoint(row) for row in np.eye(200)])
    np.save(tmp_path / "A.npy", A)
    np.save(tmp_path / "y.npy", problem.y)
    command = ["sense", str(tmp_path / "A.npy"), str(tmp_path / "y.npy"), "--out", str(tmp_path / "X.npy")]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert problem.error(np.load(tmp_path / "X.npy")) < 1e-9
