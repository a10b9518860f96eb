"""One face for what a report can be about: scores and margin gradients of torch modules, scikit-learn models and ours.

Axis letters: m points, d entries of a point (flattened), o classes.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.robustness_law import certify
from paperworks.papers.robustness_law.activations import ACTIVATIONS

Task = Literal["classification", "regression"]
_BATCH = 4096


class Adapter(Protocol):
    """points (m, d) are the test points, flat. Methods take changed points of some of them, `ids` saying which."""

    points: np.ndarray
    task: Task
    n_parameters: float | None
    gradient_kind: Literal["exact", "finite differences"]
    activations: tuple[str, ...]
    layers: list[certify.Layer] | None

    def scores(self, points: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """(m, o); of a regression (m, 1)."""

    def margin_gradients(self, points: np.ndarray, ids: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Gradient of the label's score minus the best other, (m, d); of a regression, of the output."""

    def class_ids(self, y: np.ndarray) -> np.ndarray:
        """Which column each target is, (m,). Raises InputError for a target that the model does not know."""


def margins(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The label's score minus the best other: (m, o), (m,) -> (m,). Negative where the label does not win.

    >>> margins(np.array([[3.0, 1.0, 2.0]]), np.array([2]))
    array([-1.])
    """
    rows = np.arange(labels.size)
    others = scores.astype(np.float64)
    others[rows, labels] = -np.inf
    return scores[rows, labels] - others.max(axis=1)


def rivals(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Directions e_label - e_rival (m, o), the rival being the best other class."""
    rows = np.arange(labels.size)
    others = scores.astype(np.float64)
    others[rows, labels] = -np.inf
    directions = np.zeros_like(others)
    directions[rows, labels] = 1.0
    directions[rows, others.argmax(axis=1)] -= 1.0
    return directions


class SklearnAdapter:
    """A fitted scikit-learn classifier or regressor, or one of our regressors."""

    def __init__(self, model: Any, points: np.ndarray, task: Task | None, fd_step: float) -> None:
        self.model, self.points, self.fd_step = model, points, fd_step
        if hasattr(model, "n_features_in_") and model.n_features_in_ != points.shape[1]:
            raise InputError(f"the model takes {model.n_features_in_} columns, the points have {points.shape[1]}")
        self.task: Task = task or ("classification" if hasattr(model, "classes_") else "regression")
        if self.task == "classification" and not hasattr(model, "classes_"):
            raise InputError(f"{type(model).__name__} has no classes_; use task='regression'")
        self.layers = self._checked(certify.layers_of(model))
        exact = self.layers is not None or hasattr(model, "input_gradient")
        self.gradient_kind: Literal["exact", "finite differences"] = "exact" if exact else "finite differences"
        self.n_parameters = count_parameters(model)
        name = getattr(getattr(model, "activation_", None), "name", getattr(model, "activation", None))
        self.activations: tuple[str, ...] = (name,) if isinstance(name, str) and name in ACTIVATIONS else ()
        if self.task == "regression" and self.scores(points[:1], np.arange(1)).shape[1] != 1:
            raise InputError("a report on a regression needs one output; fit one model an output")

    def _checked(self, layers: list[certify.Layer] | None) -> list[certify.Layer] | None:
        """The layers, if they give what the model predicts: a Poisson regressor has a coef_ too, and is not linear."""
        if layers is None or layers[0].weight.shape[0] != self.points.shape[1]:
            return None
        found, said = certify.forward(layers, self.points), np.asarray(self.model.predict(self.points))
        if self.task == "classification":
            return layers if (np.asarray(self.model.classes_)[found.argmax(axis=1)] == said).all() else None
        if found.size != said.size:
            return None
        return layers if np.allclose(found.reshape(said.shape), said, rtol=1e-4, atol=1e-6) else None

    def scores(self, points: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Decision values, logits or log-probabilities; the output itself for a regression."""
        model = self.model
        if self.layers is not None:
            return certify.forward(self.layers, points)
        if self.task == "regression":
            found = np.asarray(model.predict(points), dtype=np.float64)
            return found.reshape(points.shape[0], -1)
        if hasattr(model, "decision_function"):
            found = np.asarray(model.decision_function(points), dtype=np.float64)
            if found.ndim == 2 and found.shape[1] != len(model.classes_):
                raise InputError("decision values are not one a class; use decision_function_shape='ovr'")
            return np.stack([np.zeros_like(found), found], axis=1) if found.ndim == 1 else found
        if hasattr(model, "predict_proba"):
            return np.log(np.maximum(np.asarray(model.predict_proba(points), dtype=np.float64), 1e-12))
        ids_of = {c: i for i, c in enumerate(model.classes_)}
        return np.eye(len(ids_of))[[ids_of[c] for c in model.predict(points)]]

    def margin_gradients(self, points: np.ndarray, ids: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Through the layers, by `input_gradient`, or by central differences of the margin."""
        if self.layers is not None:
            scores = certify.forward(self.layers, points)
            directions = rivals(scores, labels) if self.task == "classification" else np.ones_like(scores)
            return certify.gradients(self.layers, points, directions)
        if hasattr(self.model, "input_gradient"):
            return np.asarray(self.model.input_gradient(points), dtype=np.float64).reshape(points.shape)
        grads = np.empty(points.shape)
        steps = self.fd_step * np.maximum(self.points.std(axis=0), 1e-3 * max(float(np.abs(self.points).max()), 1e-12))
        for i, point in enumerate(points):
            shifted = np.concatenate([point + np.diag(steps), point - np.diag(steps)])
            values = np.concatenate(
                [
                    self._margin(shifted[start : start + _BATCH], labels[i])
                    for start in range(0, shifted.shape[0], _BATCH)
                ]
            )
            grads[i] = (values[: steps.size] - values[steps.size :]) / (2 * steps)
        return grads

    def _margin(self, points: np.ndarray, label: int) -> np.ndarray:
        scores = self.scores(points, np.arange(points.shape[0]))
        return scores[:, 0] if self.task == "regression" else margins(scores, np.full(points.shape[0], label))

    def class_ids(self, y: np.ndarray) -> np.ndarray:
        """By classes_."""
        known = {c: i for i, c in enumerate(np.asarray(self.model.classes_).tolist())}
        try:
            return np.array([known[c] for c in np.asarray(y).tolist()])
        except KeyError as error:
            raise InputError(
                f"y_test holds {error.args[0]!r}, which is not among the model's classes {list(known)}"
            ) from error


class TorchAdapter:
    """A torch module on floats, or a Hugging Face model on token ids, whose points are then the embeddings."""

    def __init__(self, model: Any, Z: Any, task: Task | None, y: np.ndarray) -> None:
        from paperworks.papers.robustness_law import networks

        self._networks = networks
        self.model = model
        with networks.measuring(model):
            leaf, self._outputs, self._mask = networks.as_leaf(model, Z)
        self._shape = tuple(leaf.shape[1:])
        self._like = leaf.detach()[:1]
        self.points = networks._numpy(leaf).reshape(leaf.shape[0], -1)
        self.gradient_kind: Literal["exact", "finite differences"] = "exact"
        n_outputs = self._raw(self.points[:1], np.arange(1)).shape[1]
        binary = n_outputs == 1 and len(np.unique(y)) <= 2
        self.task: Task = task or ("classification" if n_outputs > 1 or binary else "regression")
        if self.task == "regression" and n_outputs > 1:
            raise InputError(f"a report on a regression needs one output, the network has {n_outputs}")
        self._single = n_outputs == 1 and self.task == "classification"
        self._n_classes = max(n_outputs, 2)
        self._values = np.unique(y) if self._single else None
        if self._single and len(np.unique(y)) > 2:
            raise InputError("a network with one output tells two classes apart; y_test holds more")
        self.n_parameters: float | None = float(sum(p.numel() for p in model.parameters()))
        named = {"Tanh": "tanh", "ReLU": "relu", "GELU": "gelu", "Softplus": "softplus", "GELUActivation": "gelu"}
        kinds = (named.get(type(m).__name__) for m in model.modules())
        self.activations = tuple(dict.fromkeys(k for k in kinds if k))
        layers = certify.layers_of(model)
        self.layers = certify._two_outputs(layers) if layers and self._single else layers

    def _tensor(self, points: np.ndarray) -> Any:
        torch = self._networks.need_torch()
        return torch.as_tensor(points).to(self._like).reshape((points.shape[0], *self._shape))

    def _raw(self, points: np.ndarray, ids: np.ndarray) -> np.ndarray:
        found = []
        with self._networks.measuring(self.model):
            for start in range(0, points.shape[0], 128):
                part = slice(start, start + 128)
                out = self._outputs(self._tensor(points[part]), ids[part])  # type: ignore[call-arg]
                found.append(self._networks._numpy(out))
        return np.concatenate(found).astype(np.float64)

    def scores(self, points: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """The outputs; (0, f) for a network with one output that tells two classes apart by its sign."""
        raw = self._raw(points, ids)
        return np.concatenate([np.zeros_like(raw), raw], axis=1) if self._single else raw

    def margin_gradients(self, points: np.ndarray, ids: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """By automatic differentiation, with respect to the inputs alone."""
        torch = self._networks.need_torch()
        found = []
        with self._networks.measuring(self.model):
            for start in range(0, points.shape[0], 128):
                part = slice(start, start + 128)
                x = self._tensor(points[part]).requires_grad_(True)
                out = self._outputs(x, ids[part])  # type: ignore[call-arg]
                if self.task == "regression":
                    chosen = out[:, 0]
                elif self._single:
                    chosen = out[:, 0] * torch.as_tensor(2.0 * labels[part] - 1).to(out)
                else:
                    chosen = self._networks.select(out, "margin", torch.as_tensor(labels[part]).to(out.device))
                (grad,) = torch.autograd.grad(chosen.sum(), x)
                if self._mask is not None and grad.ndim == 3:
                    grad = grad * self._mask[ids[part]][:, :, None].to(grad.dtype)
                found.append(self._networks._numpy(grad).reshape(grad.shape[0], -1))
        return np.concatenate(found).astype(np.float64)

    def class_ids(self, y: np.ndarray) -> np.ndarray:
        """The integers themselves; of a single output the smaller of two values is the negative side."""
        if self._values is not None:
            if self._values.size == 1:  # one class alone: which side it is must be guessed by its sign
                return np.full(len(y), int(self._values[0] > 0))
            return (np.asarray(y) == self._values[1]).astype(int)
        ids = np.asarray(y)
        if not np.issubdtype(ids.dtype, np.integer) or ids.min() < 0 or ids.max() >= self._n_classes:
            raise InputError(
                f"y_test must hold the numbers 0 to {self._n_classes - 1} of the outputs, got {ids.dtype} {np.unique(ids)[:5]}"
            )
        return ids.astype(int)


def adapt(model: Any, Z: Any, y: np.ndarray, task: Task | None = None, fd_step: float = 1e-4) -> Adapter:
    """The adapter for a model. Raises InputError for something else, or points that it cannot take."""
    if any(base.__module__.startswith("torch.nn") for base in type(model).__mro__):
        return TorchAdapter(model, Z, task, y)
    if hasattr(model, "predict"):
        points = np.asarray(Z, dtype=np.float64)
        if points.ndim != 2:
            raise InputError(f"the points of a scikit-learn model are a table (m, d), got shape {points.shape}")
        if not np.isfinite(points).all():
            raise InputError("the points hold NaN or infinity")
        return SklearnAdapter(model, points, task, fd_step)
    raise InputError(f"model must be a torch module or a fitted scikit-learn model, got {type(model).__name__}")


def count_parameters(model: Any) -> float | None:
    """Numbers that a fitted scikit-learn model keeps: weights of linear models and MLPs, nodes of trees, the last step of a pipeline;
    None when that is not known."""
    if hasattr(model, "n_parameters_"):
        return float(model.n_parameters_)
    if hasattr(model, "steps"):
        return count_parameters(model.steps[-1][1])
    if hasattr(model, "coefs_"):
        return float(sum(w.size for w in [*model.coefs_, *model.intercepts_]))
    if hasattr(model, "dual_coef_") and hasattr(model, "support_vectors_"):
        return float(model.dual_coef_.size + model.support_vectors_.size)
    if hasattr(model, "tree_"):
        return float(2 * model.tree_.node_count)
    if hasattr(model, "estimators_"):
        counts = [count_parameters(tree) for tree in np.ravel(np.asarray(model.estimators_, dtype=object))]
        return None if any(c is None for c in counts) else float(sum(c for c in counts if c is not None))
    if hasattr(model, "coef_"):
        return float(np.size(model.coef_) + np.size(getattr(model, "intercept_", 0.0)))
    return None
