"""`paperworks robustness_law`: a report on a saved model, and sensitivity curves."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from paperworks.errors import InputError, MissingExtra
from paperworks.papers.robustness_law.curves import sensitivity_curve
from paperworks.papers.robustness_law.law import law_of_robustness
from paperworks.papers.robustness_law.report import robustness_report
from paperworks.papers.robustness_law.toy import gaussian
from paperworks.progress import terminal

app = typer.Typer(
    help="How sensitive a model is, and what width or another activation would change.", no_args_is_help=True
)
Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@app.command()
def report(
    model: Annotated[
        Path,
        typer.Argument(help=".pt2 from torch.export, .pt of TorchScript; .joblib or .pkl of scikit-learn with --trust"),
    ],
    data: Annotated[str, typer.Option(help=".npz with X_train, X_test, y_test; or mnist, cifar10")],
    n: Annotated[int, typer.Option(help="test points to look at")] = 256,
    trust: Annotated[bool, typer.Option(help="load a pickle, which can run any code: only files of your own")] = False,
    data_folder: Annotated[Path | None, typer.Option(help="where mnist and cifar10 are")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="numbers instead of a page")] = False,
    plot: Annotated[Path | None, typer.Option(help="write the plot to this SVG")] = None,
) -> None:
    """Report on a trained model: sensitivity, radii, the universal bound, advice and limits."""
    X_train, _, X_test, y_test = _data(data, data_folder)
    loaded = _load(model, trust)
    with terminal("report") as progress:
        found = robustness_report(loaded, X_train, X_test, y_test, n=n, progress=progress)
    typer.echo(json.dumps(found.to_dict(), indent=1) if as_json else found.to_markdown())
    if plot is not None:
        plot.write_text(found.plot(), encoding="utf-8")


@app.command()
def curve(
    dataset: Annotated[str, typer.Option(help="synthetic, mnist, cifar10, or .npz with X, y, Z")] = "synthetic",
    act: Annotated[str, typer.Option(help="activations, by commas")] = "tanh,square",
    model: Annotated[str, typer.Option(help="rf, ntk, or both by a comma")] = "ntk",
    widths: Annotated[str, typer.Option(help="hidden units, by commas; inf is the limit")] = "15,60,150,300",
    points: Annotated[int, typer.Option(help="training points")] = 400,
    dimension: Annotated[int, typer.Option(help="of the synthetic data")] = 1000,
    seeds: Annotated[int, typer.Option(help="draws of the weights")] = 3,
    seed: Annotated[int, typer.Option(help="first seed")] = 0,
    out: Annotated[Path | None, typer.Option(help=".json or .parquet; a killed run goes on from it")] = None,
    plot: Annotated[Path | None, typer.Option(help="write the plot to this SVG")] = None,
    data_folder: Annotated[Path | None, typer.Option(help="where mnist and cifar10 are")] = None,
) -> None:
    """Measure sensitivity over width and print it beside the prediction for Gaussian data."""
    rng = np.random.default_rng(seed)
    if dataset == "synthetic":
        X, y, Z = gaussian(rng, points, dimension, 100)
    elif dataset.endswith(".npz"):
        X, y, Z = _arrays(Path(dataset), ("X", "y", "Z"))
    else:
        X, y, Z = _two_classes(*_data(dataset, data_folder), points, rng)
    try:
        sizes = [float(width) for width in widths.split(",")]
    except ValueError as error:
        raise InputError(f"widths are numbers by commas, got {widths!r}") from error
    kinds: Any = [kind.strip() for kind in model.split(",")]
    names = [name.strip() for name in act.split(",")]
    with terminal("curve") as progress:
        found = sensitivity_curve(
            X,
            y,
            Z,
            models=kinds,
            activations=names,
            widths=sizes,
            n_seeds=seeds,
            seed=seed,
            save=out,
            progress=progress,
        )
    typer.echo(f"{'model':<6}{'activation':<12}{'width':>9}{'S':>9}{'low':>9}{'high':>9}{'predicted':>11}")
    for row in found.summary():
        numbers = f"{row['sensitivity']:>9.3g}{row['low']:>9.3g}{row['high']:>9.3g}{row['predicted']:>11.3g}"
        typer.echo(f"{row['model']:<6}{row['activation']:<12}{row['width']:>9g}{numbers}")
    if plot is not None:
        plot.write_text(found.plot(), encoding="utf-8")


@app.command()
def law(
    parameters: Annotated[float, typer.Argument(help="p")],
    dimension: Annotated[float, typer.Argument(help="d, or an effective dimension")],
    points: Annotated[int, typer.Argument(help="N")],
) -> None:
    """What the universal law allows a model of that size."""
    for name, value in law_of_robustness(parameters, dimension, points).items():
        typer.echo(f"{name:<10}{value if isinstance(value, bool) else f'{value:.6g}'}")


def _load(path: Path, trust: bool) -> Any:
    if not path.exists():
        raise InputError(f"there is no model at {path}")
    if path.suffix in (".joblib", ".pkl", ".pickle"):
        if not trust:
            raise InputError(
                f"{path.name} is a pickle, which can run any code when it is loaded; pass --trust if it is your own"
            )
        import joblib

        return joblib.load(path)
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("reading a torch model", "nn") from error
    try:
        if path.suffix == ".pt2":
            return torch.export.load(path).module()
        return torch.jit.load(path)  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{path.name} is neither TorchScript nor an exported program: {error}") from error


def _arrays(path: Path, names: tuple[str, ...]) -> Any:
    try:
        with np.load(path, allow_pickle=False) as file:
            return tuple(file[name] for name in names)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"cannot read {', '.join(names)} from {path}: {error}") from error


def _data(name: str, folder: Path | None) -> Split:
    """X_train, y_train (empty when not known), X_test, y_test; of pictures, pixels over 255, one a row."""
    from paperworks.claims import Data
    from paperworks.config import load

    if name.endswith(".npz"):
        X_train, X_test, y_test = _arrays(Path(name), ("X_train", "X_test", "y_test"))
        return X_train, np.zeros(0), X_test, y_test
    finder = Data(folder, configured=load().data)
    if name == "mnist":
        with gzip.open(finder.path("mnist/mnist-t10k-images-idx3-ubyte.gz")) as file:
            pixels = (np.frombuffer(file.read(), np.uint8, offset=16) / np.float32(255)).reshape(-1, 784)
        with gzip.open(finder.path("mnist/mnist-t10k-labels-idx1-ubyte.gz")) as file:
            labels = np.frombuffer(file.read(), np.uint8, offset=8).astype(int)
        return pixels[:8000], labels[:8000], pixels[8000:], labels[8000:]
    if name == "cifar10":
        parts: list[np.ndarray] = []
        for part in ("train_10k", "test_2k"):
            images, labels = _arrays(finder.path(f"cifar10/{part}.npz"), ("images", "labels"))
            parts += [(images / np.float32(255)).reshape(images.shape[0], -1), labels.astype(int)]
        return parts[0], parts[1], parts[2], parts[3]
    raise InputError(f"data must be mnist, cifar10 or an .npz file, got {name!r}")


def _two_classes(
    X: np.ndarray, y: np.ndarray, X_test: np.ndarray, y_test: np.ndarray, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ids = rng.permutation(np.flatnonzero(y < 2))[:n]
    return X[ids].astype(float), np.where(y[ids] == 0, 1.0, -1.0), X_test[y_test < 2][:100].astype(float)
