"""The paper line by line: the feature matrix is built, its pseudo-inverse taken. Slow, and small inputs only; for tests and benchmarks.

The second derivative of tanh is the right one; the authors' code has another (see README.md).
"""

from __future__ import annotations

import numpy as np

from paperworks.papers.robustness_law.activations import Activation
from paperworks.papers.robustness_law.kernels import Kind


def features(kind: Kind, X: np.ndarray, W: np.ndarray, act: Activation) -> np.ndarray:
    """Phi (n, p): act(X W), or rows x (kron) act'(W^T x)."""
    if kind == "rf":
        return act.value(X @ W)
    return np.stack([np.kron(x, slopes) for x, slopes in zip(X, act.first(X @ W), strict=True)])


def feature_gradient(kind: Kind, z: np.ndarray, W: np.ndarray, act: Activation) -> np.ndarray:
    """grad_z phi(z)^T (d, p)."""
    at_z = W.T @ z
    if kind == "rf":
        return W @ np.diag(act.first(at_z))
    d = z.size
    bent = W @ np.diag(act.second(at_z))
    return np.stack([np.kron(np.eye(d)[i], act.first(at_z)) + np.kron(z, bent[i]) for i in range(d)])


def gradient(kind: Kind, X: np.ndarray, y: np.ndarray, z: np.ndarray, W: np.ndarray, act: Activation) -> np.ndarray:
    """grad_z f(z) = grad_z phi(z)^T Phi^+ y, (d,)."""
    return np.asarray(feature_gradient(kind, z, W, act) @ np.linalg.pinv(features(kind, X, W, act)) @ y)


def sensitivity(kind: Kind, X: np.ndarray, y: np.ndarray, z: np.ndarray, W: np.ndarray, act: Activation) -> float:
    """S(z) = sqrt(d) |grad_z f(z)|."""
    return float(np.sqrt(z.size) * np.linalg.norm(gradient(kind, X, y, z, W, act)))
