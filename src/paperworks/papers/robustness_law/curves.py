"""Sensitivity over width, for several models, activations and draws of the weights; kept as it goes, so that a killed run goes on."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import InputError, MissingExtra
from paperworks.papers.robustness_law.activations import Activation, activation
from paperworks.papers.robustness_law.kernels import Kind
from paperworks.papers.robustness_law.models import NTKRegressor, RandomFeatures, Scale
from paperworks.papers.robustness_law.theory import predicted_sensitivity
from paperworks.progress import Progress, silent

MODELS = {"rf": RandomFeatures, "ntk": NTKRegressor}
Row = dict[str, Any]


@dataclass(frozen=True)
class SensitivityCurve:
    """One row per model, activation, width and seed; `summary` averages the seeds.

    A row: model, activation, width, seed, n, d, p, median, mean, q10, q90 (over the test points), residual (relative, on the training
    targets), and predicted (for Gaussian data and unit labels that know nothing of them).
    """

    rows: list[Row]
    fingerprint: str = ""  # of the data and settings
    notes: dict[str, Any] = field(default_factory=dict)

    def to_frame(self) -> Any:
        """The rows as a pandas DataFrame. Raises MissingExtra without pandas."""
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingExtra("to_frame", "peers") from error
        return pd.DataFrame(self.rows)

    def summary(self) -> list[Row]:
        """Per model, activation and width: the mean over seeds of the medians, its 95 % interval (low, high), and the prediction."""
        found = []
        groups: dict[tuple[str, str, float], list[Row]] = {}
        for row in self.rows:
            groups.setdefault((row["model"], row["activation"], row["width"]), []).append(row)
        for (model, act, width), rows in groups.items():
            medians = np.array([row["median"] for row in rows])
            low, high = _interval(medians)
            found.append(
                {
                    "model": model,
                    "activation": act,
                    "width": width,
                    "sensitivity": float(medians.mean()),
                    "low": low,
                    "high": high,
                    "predicted": rows[0]["predicted"],
                    "seeds": len(rows),
                }
            )
        return found

    def slope(self, model: str, activation: str) -> float:
        """Slope of log sensitivity over log width, over the finite widths. Raises InputError with fewer than two of them."""
        points = [
            (row["width"], row["sensitivity"])
            for row in self.summary()
            if row["model"] == model and row["activation"] == activation and np.isfinite(row["width"])
        ]
        if len(points) < 2:
            raise InputError(f"a slope needs two finite widths of {model}, {activation}; there are {len(points)}")
        x, y = np.log(np.array(points)).T
        return float(np.polyfit(x, y, 1)[0])

    def save(self, path: Path | str) -> None:
        """Write to .json, or to .parquet with pandas and pyarrow; aside first, so that a crash leaves the old file."""
        path = Path(path)
        aside = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            if path.suffix == ".parquet":
                frame = self.to_frame()
                frame["fingerprint"] = self.fingerprint
                try:
                    frame.to_parquet(aside, index=False)
                except ImportError as error:
                    raise MissingExtra("writing parquet (pyarrow)", "nn") from error
            elif path.suffix == ".json":
                rows = [row | {"width": _out(row["width"]), "p": _out(row["p"])} for row in self.rows]
                aside.write_text(
                    json.dumps({"fingerprint": self.fingerprint, "rows": rows}, indent=1), encoding="utf-8"
                )
            else:
                raise InputError(f"a curve is kept as .json or .parquet, got {path.name!r}")
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path | str) -> SensitivityCurve:
        """Read what `save` wrote. Raises InputError for another file."""
        path = Path(path)
        try:
            if path.suffix == ".parquet":
                import pandas as pd

                frame = pd.read_parquet(path)
                mark = str(frame["fingerprint"].iloc[0]) if len(frame) else ""
                return cls(frame.drop(columns="fingerprint").to_dict("records"), mark)
            kept = json.loads(path.read_text(encoding="utf-8"))
            rows = [row | {"width": float(row["width"]), "p": float(row["p"])} for row in kept["rows"]]
            return cls(rows, kept["fingerprint"])
        except ImportError as error:
            raise MissingExtra("reading parquet (pandas and pyarrow)", "nn") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} holds no sensitivity curve: {error}") from error

    def plot(self) -> str:
        """An SVG: measured points with their intervals, predictions dashed, both axes in logarithms."""
        from paperworks.papers.robustness_law.plot import curve_svg

        return curve_svg(self.summary())


def sensitivity_curve(
    X: Any,
    y: Any,
    Z: Any,
    *,
    models: Sequence[Kind] = ("rf", "ntk"),
    activations: Sequence[str | Activation] = ("tanh", "square"),
    widths: Sequence[float] | dict[str, Sequence[float]] = (15, 60, 150, 300),
    n_seeds: int = 5,
    seed: int = 0,
    scale: Scale = "sqrt_d",
    save: Path | str | None = None,
    progress: Progress = silent,
    **settings: Any,
) -> SensitivityCurve:
    """Measure S at Z (m, d) of models fitted to X (n, d), y (n,), for every model, activation, width and draw of the weights.

    widths: for all models, or {"rf": ..., "ntk": ...}; numpy.inf is the limit (once, it has no seed).
    save: a .json or .parquet file, written after every cell; what it already holds for the same data and settings is not measured again.
    settings: further parameters of the models (reg, normalize, chunk, max_bytes).
    Raises InputError for an unknown model, n_seeds < 1, or a file that belongs to other data or settings.

    >>> from paperworks.papers.robustness_law import toy
    >>> data = toy.gaussian(np.random.default_rng(0), n=30, d=60)
    >>> curve = sensitivity_curve(*data, models=["ntk"], widths=(5, 50), n_seeds=2)
    >>> curve.slope("ntk", "square") < curve.slope("ntk", "tanh") < 0.1
    True
    """
    X, y, Z = (np.asarray(a) for a in (X, y, Z))
    unknown = [m for m in models if m not in MODELS]
    if unknown:
        raise InputError(f"unknown model {unknown[0]!r}; known are rf and ntk")
    if n_seeds < 1:
        raise InputError(f"n_seeds must be at least 1, got {n_seeds}")
    acts = [activation(which) for which in activations]
    mark = _fingerprint(X, y, Z, scale, settings)
    rows: list[Row] = []
    if save is not None and Path(save).exists():
        before = SensitivityCurve.load(save)
        if before.fingerprint != mark:
            raise InputError(f"{save} holds a curve of other data or settings; name another file, or remove it")
        rows = before.rows
    known = {(r["model"], r["activation"], float(r["width"]), int(r["seed"])) for r in rows}
    per_model = widths if isinstance(widths, dict) else dict.fromkeys(models, widths)
    cells = [
        (model, act, float(width), seed + i)
        for model, act in itertools.product(models, acts)
        for width in per_model[model]
        for i in range(n_seeds if np.isfinite(width) else 1)
    ]
    for done, (model, act, width, cell_seed) in enumerate(cells, start=1):
        if (model, act.name, width, cell_seed) not in known:
            fitted = MODELS[model](width, act, random_state=cell_seed, **settings).fit(X, y)
            rows.append(_row(model, act, width, cell_seed, fitted, Z, scale))
            if save is not None:
                SensitivityCurve(rows, mark).save(save)
        progress(done, len(cells), f"{model}, {act.name}, width {width:g}")
    return SensitivityCurve(rows, mark)


def _row(model: Kind, act: Activation, width: float, seed: int, fitted: Any, Z: np.ndarray, scale: Scale) -> Row:
    S = fitted.sensitivity(Z, scale, outputs="operator")
    n, d = fitted.X_fit_.shape
    q10, median, q90 = (float(q) for q in np.quantile(S, (0.1, 0.5, 0.9)))
    return {
        "model": model,
        "activation": act.name,
        "width": width,
        "seed": seed,
        "n": n,
        "d": d,
        "p": fitted.n_parameters_,
        "median": median,
        "mean": float(S.mean()),
        "q10": q10,
        "q90": q90,
        "residual": fitted.train_residual_,
        "predicted": predicted_sensitivity(model, act, n, d, width),
    }


def _interval(values: np.ndarray) -> tuple[float, float]:
    from scipy.stats import t

    if values.size < 2:
        return float(values[0]), float(values[0])
    half = float(t.ppf(0.975, values.size - 1) * values.std(ddof=1) / np.sqrt(values.size))
    return float(values.mean() - half), float(values.mean() + half)


def _fingerprint(X: np.ndarray, y: np.ndarray, Z: np.ndarray, scale: str, settings: dict[str, Any]) -> str:
    digest = hashlib.sha256(repr((scale, sorted(settings.items()))).encode())
    for array in (X, y, Z):
        digest.update(repr((array.shape, str(array.dtype))).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _out(number: float) -> float | str:
    return number if np.isfinite(number) else "inf"  # JSON knows no infinity
