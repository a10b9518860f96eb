"""The method line by line, one formula a line and no speed: what the fast version is tested against."""

from __future__ import annotations

import numpy as np


def start(A: np.ndarray, y: np.ndarray, rank: int, alpha: float) -> np.ndarray:
    """U_0 = alpha B: B B^T is the positive part of the sub-gradient at zero, of that rank and Frobenius norm 1. A (m, d, d)."""
    m = len(A)
    C = sum(np.sign(y[i]) * (A[i] + A[i].T) / 2 for i in range(m)) / m
    values, vectors = np.linalg.eigh(C)
    largest = np.argsort(-values)[:rank]
    lam = np.maximum(values[largest], 0)
    B = vectors[:, largest] * np.sqrt(lam)
    return alpha * B / np.sqrt(np.linalg.norm(B @ B.T))


def signed_mean(A: np.ndarray, y: np.ndarray, X: np.ndarray) -> np.ndarray:
    """Q(X) = (1/m) sum_i sign(<A_i, X> - y_i) (A_i + A_i^T)/2."""
    m = len(A)
    return sum(np.sign(np.sum(A[i] * X) - y[i]) * (A[i] + A[i].T) / 2 for i in range(m)) / m


def subgm(A: np.ndarray, y: np.ndarray, U: np.ndarray, eta0: float, rho: float, steps: int) -> np.ndarray:
    """U_{t+1} = U_t - eta0 rho^t Q_t U_t / ||Q_t||, the spectral norm computed in full; returns the last U (d, k)."""
    for t in range(steps):
        Q = signed_mean(A, y, U @ U.T)
        U = U - eta0 * rho**t / np.linalg.norm(Q, 2) * Q @ U
    return U


def least_squares(A: np.ndarray, y: np.ndarray, U: np.ndarray, step: float, steps: int) -> list[np.ndarray]:
    """Gradient descent on (1/m) sum (<A_i, U U^T> - y_i)^2 / 4, for comparison; all iterates. A (m, d, d) symmetric."""
    flat = A.reshape(len(A), -1)
    path = [U]
    for _ in range(steps):
        residual = flat @ (U @ U.T).ravel() - y
        U = U - step * ((flat.T @ residual) / len(A)).reshape(A.shape[1:]) @ U
        path.append(U)
    return path
