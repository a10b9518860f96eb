"""A report on a trained model: how sensitive it is, how far its answers are from flipping, what its size would allow, and what that is worth.

Axis letters: m test points that were looked at, d entries of a point, N training rows, p parameters.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.robustness_law import certify, words
from paperworks.papers.robustness_law.activations import parity_index
from paperworks.papers.robustness_law.adapters import Adapter, Task, adapt, margins
from paperworks.papers.robustness_law.flip import flip_search
from paperworks.papers.robustness_law.law import effective_dimension, law_of_robustness
from paperworks.progress import Progress, silent

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_FD_ROWS = 400_000  # predictions that finite differences may ask for
_CERTIFY_UNITS = 4096  # a certificate is tried up to this many hidden units


@dataclass(frozen=True)
class RobustnessReport:
    """What was found. Arrays are per looked-at test point (m,); changes of the input are Euclidean, in the input's own units.

    sensitivity: |z| |grad of the margin|, of a regression of the output. relative_sensitivity: over the root mean square of margin or
    output, which has no unit and stands beside the bound. margin: of the predicted class; of a regression, `tolerance`.
    first_order_radius: margin / |grad|, an estimate. flip_radius: found by search, never below the true distance. certified_radius: never
    above it, or None. bound, bound_effective: sqrt(d N / p) with the dimension, and with the effective one; NaN when p is not known.
    """

    task: Task
    model: str
    n_parameters: float | None
    n_train: int
    dimension: int
    effective_dimension: float
    bound: float
    bound_effective: float
    p_needed: float
    sensitivity: np.ndarray
    relative_sensitivity: float
    margin: np.ndarray
    first_order_radius: np.ndarray
    flip_radius: np.ndarray
    certified_radius: np.ndarray | None
    input_norm: np.ndarray
    correct: np.ndarray | None
    labels: np.ndarray
    gradient_kind: str
    parity: dict[str, float]
    tolerance: float | None
    notes: tuple[str, ...] = ()
    seed: int = 0
    per_class: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """relative_sensitivity / bound: how far from what the size would allow; about 1 or less is as good as the law promises."""
        return self.relative_sensitivity / self.bound

    @property
    def accuracy(self) -> float | None:
        """On the points looked at, of a classifier."""
        return None if self.correct is None else float(self.correct.mean())

    def quantiles(self, what: str = "sensitivity") -> dict[float, float]:
        """5, 25, 50, 75 and 95 % of one of the arrays."""
        values = np.asarray(getattr(self, what), dtype=float)
        return {
            q: float(v) for q, v in zip(QUANTILES, np.quantile(values, QUANTILES, method="inverted_cdf"), strict=True)
        }

    @property
    def advice(self) -> tuple[str, ...]:
        """What the numbers suggest, in plain words."""
        return words.advice(self)

    @property
    def limits(self) -> tuple[str, ...]:
        """What the numbers do not say: what is certified, what is searched, what is estimated."""
        return words.limits(self)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values: arrays as lists, infinities and NaN as None."""
        found = asdict(self) | {"ratio": self.ratio, "accuracy": self.accuracy}
        found |= {"advice": list(self.advice), "limits": list(self.limits), "notes": list(self.notes)}
        found["quantiles"] = {w: {f"{q:g}": v for q, v in self.quantiles(w).items()} for w in words.ROWS}
        return words.plain(found)

    def to_markdown(self) -> str:
        """The report as a page."""
        return words.markdown(self)

    def plot(self) -> str:
        """An SVG: the share of answers flipped, over the size of the change."""
        from paperworks.papers.robustness_law.plot import radius_svg

        return radius_svg(self.flip_radius.tolist(), "Share of answers that a change of this size was found to flip")


def robustness_report(
    model: Any,
    X_train: Any,
    X_test: Any,
    y_test: Any,
    *,
    n: int = 256,
    task: Task | None = None,
    n_parameters: float | None = None,
    tolerance: float | None = None,
    certify_points: int = 32,
    fd_step: float = 1e-4,
    seed: int = 0,
    progress: Progress = silent,
) -> RobustnessReport:
    """Look at up to n test points of a trained model.

    model: a fitted scikit-learn classifier or regressor (pipelines too), a torch module on floats (m, ...), a Hugging Face classifier on token
    ids or the tokenizer's output (changes are then of the embeddings), or a regressor of this package.
    X_train: the training inputs, for N and the effective dimension (a sample will do, then give N as `len`; of text it is not used).
    y_test: class labels, or targets of a regression.
    task: read off the model by default. n_parameters: for models whose size is not known. tolerance: the change of a regression's output
    that counts as a flip, the targets' standard deviation by default. certify_points: for how many points a certificate is tried.
    fd_step: step of finite differences in standard deviations of a column.
    Raises InputError for inputs that do not fit the model, MissingExtra for a torch model without torch.

    >>> from sklearn.linear_model import LogisticRegression
    >>> from paperworks.papers.robustness_law import toy
    >>> X, y = toy.two_classes(np.random.default_rng(0))
    >>> report = robustness_report(LogisticRegression().fit(X[:100], y[:100]), X[:100], X[100:], y[100:])
    >>> bool(np.allclose(report.flip_radius, report.first_order_radius, rtol=1e-4))  # the boundary is a plane
    True
    """
    y = np.asarray(y_test).ravel()
    chosen = _choose(y.size, n, seed)
    Z = _rows(X_test, chosen, y.size)
    adapter = adapt(model, Z, y, task, fd_step)
    if adapter.gradient_kind == "finite differences":
        affordable = max(8, _FD_ROWS // (2 * adapter.points.shape[1]))
        if affordable < chosen.size:
            chosen = chosen[:affordable]
            adapter = adapt(model, _rows(X_test, chosen, y.size), y, task, fd_step)
    m, d = adapter.points.shape
    ids, notes = np.arange(m), list[str]()
    n_train, d_effective = _training(X_train, d, notes)
    p = n_parameters if n_parameters is not None else adapter.n_parameters
    if p is None:
        notes.append("The number of parameters is not known; give n_parameters for the universal bound.")
    progress(1, 4, "scores")
    scores = adapter.scores(adapter.points, ids)
    if not np.isfinite(scores).all():
        raise InputError("the model's outputs hold NaN or infinity at the test points")
    y = y[chosen]
    if adapter.task == "classification":
        labels = scores.argmax(axis=1)
        margin, known = margins(scores, labels), adapter.class_ids(y)
        correct, tolerance = known == labels, None
        size = float(np.sqrt(np.mean(margin**2)))
    else:
        labels, known, correct = np.zeros(m, dtype=int), None, None
        tolerance = float(np.std(np.asarray(y_test, dtype=float))) if tolerance is None else float(tolerance)
        if not tolerance > 0:
            raise InputError(f"tolerance must be positive, got {tolerance}; the targets may be constant")
        margin, size = np.full(m, tolerance), float(np.sqrt(np.mean((scores - scores.mean()) ** 2)))
    progress(2, 4, "gradients")
    grads = adapter.margin_gradients(adapter.points, ids, labels)
    norms = np.linalg.norm(grads, axis=1)
    input_norm = np.linalg.norm(adapter.points, axis=1)
    sensitivity = input_norm * norms
    if (norms == 0).mean() > 0.5 and adapter.gradient_kind != "exact":
        notes.append(
            "Most gradients are zero: the model is constant piece by piece, so only the flip radius says anything."
        )
    progress(3, 4, "flips")
    flips = _flips(adapter, scores, labels, grads, tolerance)
    certified = _certified(adapter, min(certify_points, m)) if adapter.task == "classification" else None
    law = law_of_robustness(p, d, n_train) if p is not None and p > 0 else {}
    effective = law_of_robustness(p, d_effective, n_train) if p is not None and p > 0 and d_effective > 0 else {}
    progress(4, 4, "")
    radius = np.divide(margin, norms, out=np.full(m, np.inf), where=norms > 0)
    return RobustnessReport(
        task=adapter.task,
        model=type(model).__name__,
        n_parameters=p,
        n_train=n_train,
        dimension=d,
        effective_dimension=d_effective,
        bound=float(law.get("bound", np.nan)),
        bound_effective=float(effective.get("bound", np.nan)),
        p_needed=float(d * n_train),
        sensitivity=sensitivity,
        relative_sensitivity=float(np.median(sensitivity)) / size if size > 0 else 0.0,
        margin=margin,
        first_order_radius=radius,
        flip_radius=flips,
        certified_radius=certified,
        input_norm=input_norm,
        correct=correct,
        labels=y,
        gradient_kind=adapter.gradient_kind,
        parity={name: parity_index(name) for name in adapter.activations},
        tolerance=tolerance,
        notes=tuple(notes),
        seed=seed,
        per_class=[] if correct is None else _per_class(y, correct, sensitivity, margin, radius, flips),
    )


def _choose(total: int, n: int, seed: int) -> np.ndarray:
    if n < 1:
        raise InputError(f"n must be at least 1, got {n}")
    if total == 0:
        raise InputError("there are no test points")
    return np.sort(np.random.default_rng(seed).permutation(total)[:n])


def _rows(Z: Any, chosen: np.ndarray, total: int) -> Any:
    if hasattr(Z, "items") and not hasattr(Z, "iloc"):
        return {key: _rows(value, chosen, total) for key, value in Z.items()}
    if hasattr(Z, "iloc"):
        Z = Z.to_numpy()
    if not hasattr(Z, "shape"):
        Z = np.asarray(Z)
    if Z.shape[0] != total:
        raise InputError(f"X_test has {Z.shape[0]} rows and y_test {total}")
    return Z[chosen]


def _training(X_train: Any, d: int, notes: list[str]) -> tuple[int, float]:
    if hasattr(X_train, "items") and not hasattr(X_train, "iloc"):
        X_train = next(iter(X_train.values()))
    table = X_train.detach().cpu().numpy() if hasattr(X_train, "detach") else np.asarray(X_train)
    if table.ndim == 0 or table.shape[0] == 0:
        raise InputError("X_train must hold the training inputs, one a row")
    flat = table.reshape(table.shape[0], -1)
    if flat.shape[1] != d or not np.issubdtype(flat.dtype, np.number):
        notes.append(
            "The effective dimension is that of the plain dimension: the training inputs are not in the space of the points."
        )
        return table.shape[0], float(d)
    sample = flat if flat.shape[0] <= 2000 else flat[np.random.default_rng(0).permutation(flat.shape[0])[:2000]]
    return table.shape[0], effective_dimension(sample)


def _flips(
    adapter: Adapter, scores: np.ndarray, labels: np.ndarray, grads: np.ndarray, tolerance: float | None
) -> np.ndarray:
    others = None
    if adapter.task == "classification":
        others = _nearest_other(adapter.points, labels)

    def changed(points: np.ndarray, ids: np.ndarray) -> np.ndarray:
        found = adapter.scores(points, ids)
        if tolerance is None:
            return np.asarray(found.argmax(axis=1) != labels[ids])
        return np.asarray(np.abs(found[:, 0] - scores[ids, 0]) >= tolerance)

    def gradient(points: np.ndarray, ids: np.ndarray) -> np.ndarray:
        towards = adapter.margin_gradients(points, ids, labels[ids])
        if tolerance is not None:  # away from the first output, on the side where it already is
            side = np.sign(adapter.scores(points, ids)[:, 0] - scores[ids, 0])
            towards = -towards * np.where(side == 0, 1.0, side)[:, None]
        return towards

    return flip_search(adapter.points, changed, gradient if adapter.gradient_kind == "exact" else None, grads, others)


def _nearest_other(points: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
    if np.unique(labels).size < 2:
        return None
    squares = (points**2).sum(axis=1)
    distances = squares[:, None] + squares[None, :] - 2 * points @ points.T
    distances[labels[:, None] == labels[None, :]] = np.inf
    return points[distances.argmin(axis=1)]


def _certified(adapter: Adapter, count: int) -> np.ndarray | None:
    layers = adapter.layers
    if layers is None or count == 0 or sum(layer.bias.size for layer in layers) > _CERTIFY_UNITS:
        return None
    return np.array([certify.certified_radius(layers, point) for point in adapter.points[:count]])


def _per_class(y: np.ndarray, correct: np.ndarray, *columns: np.ndarray) -> list[dict[str, Any]]:
    names = ("sensitivity", "margin", "first_order_radius", "flip_radius")
    rows = []
    for value in np.unique(y):
        mine = y == value
        row: dict[str, Any] = {
            "class": value.item(),
            "points": int(mine.sum()),
            "accuracy": float(correct[mine].mean()),
        }
        rows.append(
            row
            | {
                name: float(np.quantile(c[mine], 0.5, method="inverted_cdf"))
                for name, c in zip(names, columns, strict=True)
            }
        )
    return rows
