"""`paperworks.<slug>` is the paper's package under a shorter name, and the same module."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys

import pytest


def test_both_names_are_the_same_module() -> None:
    short = importlib.import_module("paperworks.preprocessing_bias")
    long = importlib.import_module("paperworks.papers.preprocessing_bias")
    assert short is long
    assert long.__spec__.name == "paperworks.papers.preprocessing_bias"
    below = importlib.import_module("paperworks.preprocessing_bias.report")
    assert below is importlib.import_module("paperworks.papers.preprocessing_bias.report")


def test_objects_pickle_under_the_long_name() -> None:
    from paperworks.preprocessing_bias import TopKVariance

    assert TopKVariance.__module__.startswith("paperworks.papers.")
    assert pickle.loads(pickle.dumps(TopKVariance(3))).k == 3


def test_unknown_names_are_plain_import_errors() -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("paperworks.no_such_paper")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("paperworks.preprocessing_bias.no_such_module")
    with pytest.raises(AttributeError, match="no_such_paper"):
        importlib.import_module("paperworks").no_such_paper  # noqa: B018


def test_import_of_the_package_reads_no_catalogue() -> None:
    code = "import sys, paperworks; print('paperworks.catalogue' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
