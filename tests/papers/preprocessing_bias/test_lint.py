"""The linter finds the pattern, and not what only looks like it."""

from __future__ import annotations

import json

import pytest

from paperworks.errors import InputError
from paperworks.papers.preprocessing_bias import audit_notebook, lint_source

FOUND = {
    "fit_transform, then folds": "Z = PCA(2).fit_transform(X)\ncross_val_score(m, Z, y)",
    "inline": "cross_validate(m, PCA(2).fit_transform(X), y)",
    "fit and transform": "s = Scaler()\ns.fit(X)\nZ = s.transform(X)\ntrain_test_split(Z, y)",
    "through a slice": "Z = PCA(2).fit_transform(X)[:, :1]\ncross_val_predict(m, Z, y)",
    "through a conversion": "Z = np.asarray(PCA(2).fit_transform(X))\ncross_val_score(m, Z, y)",
    "in a function": "def f(X, y):\n    Z = PCA(2).fit_transform(X)\n    return cross_val_score(m, Z, y)",
    "a search": "Z = PCA(2).fit_transform(X)\nsearch = GridSearchCV(m, g)\nsearch.fit(Z, y)",
}
FINE = {
    "a pipeline": "p = make_pipeline(PCA(2), m)\ncross_val_score(p, X, y)",
    "fitted after the split": "A, B = train_test_split(X)\nZ = PCA(2).fit_transform(A)\ncross_val_score(m, Z, y)",
    "overwritten": "Z = PCA(2).fit_transform(X)\nZ = X\ncross_val_score(m, Z, y)",
    "another function": "def f(X):\n    Z = PCA(2).fit_transform(X)\ncross_val_score(m, Z, y)",
}


@pytest.mark.parametrize("source", FOUND.values(), ids=FOUND)
def test_found(source) -> None:
    assert len(lint_source(source)) == 1


@pytest.mark.parametrize("source", FINE.values(), ids=FINE)
def test_fine(source) -> None:
    assert lint_source(source) == []


def test_a_step_that_was_given_y_is_said_so() -> None:
    (finding,) = lint_source("Z = SelectKBest().fit_transform(X, y)\ncross_val_score(m, Z, y)")
    assert finding.supervised
    assert "given y" in finding.message


def test_notebooks_and_scripts(tmp_path) -> None:
    cells = [
        {"cell_type": "markdown", "source": ["Z = no code"]},
        {"cell_type": "code", "source": ["%matplotlib inline\n", "Z = PCA(2).fit_transform(X)\n"]},
        {"cell_type": "code", "source": "cross_val_score(m, Z, y)"},
    ]
    notebook = tmp_path / "a.ipynb"
    notebook.write_text(json.dumps({"cells": cells}))
    (finding,) = audit_notebook(notebook)
    assert (finding.line, finding.used_line) == (2, 3)
    broken = tmp_path / "b.ipynb"
    broken.write_text("[]")
    with pytest.raises(InputError, match="not a notebook"):
        audit_notebook(broken)
    with pytest.raises(InputError, match="line 1"):
        lint_source("def (")
