"""One cell of the paper's grid by the published script's arithmetic and by ours, and the report's radius against CLEVER where ART is there.

Bars: tangent kernel at d = 1000, N = 400 at least 200 times faster at 15 units and 500 times at 60, random features of 10,000 units at least
30 times, same S; random features at least at 60 % of the machine's GEMM rate. `--small` takes a tenth of the time (and no bars).
CPU seconds of one process and one thread. Writes docs/benchmarks/robustness_law.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy: threads of a busy machine would measure the machine
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from paperworks.papers.robustness_law import NTKRegressor, RandomFeatures, robustness_report, toy
from paperworks.papers.robustness_law.activations import ACTIVATIONS
from paperworks.papers.robustness_law.kernels import Weights, gram

OUT = Path(__file__).parents[1] / "docs" / "benchmarks" / "robustness_law.md"


def cpu_seconds(work: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """CPU time of this process, the best of `repeats`, and the last result."""
    best, result = float("inf"), None
    for _ in range(repeats):
        begin = time.process_time()
        result = work()
        best = min(best, time.process_time() - begin)
    return best, result


def published_cell(kind: str, X: np.ndarray, y: np.ndarray, z: np.ndarray, W: np.ndarray) -> float:
    """S of the square activation with what the script does: vectorised Python functions, explicit features, diagonal matrices, pinv."""
    d = z.size
    value, first, second = (np.vectorize(f) for f in (lambda x: x**2 / 2, lambda x: x, lambda x: 1))

    def rows(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.array([np.kron(left, right) for left, right in zip(a, b, strict=True)])

    if kind == "rf":
        features, slope = value(X @ W), W @ np.diag(first(W.T @ z))
    else:
        ones = np.ones(d)
        features = rows(X, first(X @ W))
        slope = rows(np.eye(d), np.outer(ones, first(W.T @ z))) + rows(np.outer(ones, z), W @ np.diag(second(W.T @ z)))
    return float(np.sqrt(d) * np.linalg.norm(slope @ np.linalg.pinv(features) @ y))


def cell(kind: str, n: int, d: int, k: int) -> tuple[float, float, float]:
    """Seconds by the script, seconds by ours, relative difference of S; the same weights in both."""
    X, y, Z = toy.gaussian(np.random.default_rng(0), n, d, 1)
    model = RandomFeatures if kind == "rf" else NTKRegressor
    make = lambda: model(k, "square").fit(X, y)  # noqa: E731
    W = np.concatenate([part for _, part in make()._weights.chunks()], axis=1)
    before, ours = cpu_seconds(lambda: make().sensitivity(Z)[0], 3)
    theirs, published = cpu_seconds(lambda: published_cell(kind, X, y, Z[0], W))
    theirs += cpu_seconds(lambda: np.random.default_rng(0).standard_normal((d, k)))[0]  # ours draws its weights too
    after, _ = cpu_seconds(lambda: make().sensitivity(Z)[0], 3)
    return theirs, min(before, after), abs(ours / published - 1)


def gemm_share(n: int, d: int, k: int) -> tuple[float, float, float]:
    """(GFLOP/s of the kernel's products, GFLOP/s of plain products of these shapes, share of the time with the draw of the weights)."""
    X = np.random.default_rng(0).standard_normal((n, d))
    weights = Weights(d, k, 0)
    list(weights.chunks())
    W = np.ascontiguousarray(np.random.default_rng(1).standard_normal((8192, d))).T
    F = X @ W
    shares, rates = [], []
    for _ in range(5):
        ours, _ = cpu_seconds(lambda: gram("rf", X, weights, ACTIVATIONS["square"]))
        plain, _ = cpu_seconds(lambda: (X @ W, F @ F.T))
        plain *= k / 8192
        shares.append(plain / ours)
        rates.append(2 * n * k * (d + n / 2) / plain / 1e9)  # F F^T is symmetric: BLAS does half
    share = float(np.median(shares))
    drawn, _ = cpu_seconds(lambda: gram("rf", X, Weights(d, k, 1), ACTIVATIONS["square"]), 2)
    kept, _ = cpu_seconds(lambda: gram("rf", X, weights, ACTIVATIONS["square"]), 2)
    return share * float(np.median(rates)), float(np.median(rates)), kept / drawn


def clever() -> str:
    """Rank correlation with the searched flip radius, and CPU milliseconds a point, of ART's CLEVER and of our first-order radius."""
    import torch
    from art.estimators.classification import PyTorchClassifier
    from art.metrics import clever_u
    from scipy.stats import spearmanr

    torch.manual_seed(0)
    X, y = toy.two_classes(np.random.default_rng(0), n=400, d=20)
    X = X.astype(np.float32)
    net = torch.nn.Sequential(torch.nn.Linear(20, 32), torch.nn.Tanh(), torch.nn.Linear(32, 2))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(torch.as_tensor(X[:300])), torch.as_tensor(y[:300])).backward()
        optimizer.step()
    ours, report = cpu_seconds(lambda: robustness_report(net, X[:300], X[300:], y[300:], n=40, certify_points=0))
    points = X[300:][np.sort(np.random.default_rng(0).permutation(100)[:40])]
    wrapped = PyTorchClassifier(net, torch.nn.CrossEntropyLoss(), (20,), 2)
    theirs, scores = cpu_seconds(
        lambda: [clever_u(wrapped, point, 20, 50, 5.0, norm=2, verbose=False) for point in points]
    )
    first, found = (spearmanr(r, report.flip_radius).statistic for r in (report.first_order_radius, scores))
    return (
        f"CLEVER {theirs / 40 * 1e3:.0f} ms a point, rank correlation with the flip radius {found:.3f}; "
        f"the whole report {ours / 40 * 1e3:.1f} ms a point, its first-order radius {first:.3f}"
    )


def main() -> None:
    """Run all, print and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true")
    small = parser.parse_args().small
    rows: list[tuple[str, str, str, str]] = []
    n, d = (100, 300) if small else (400, 1000)
    for kind, k, bar in (("ntk", 15, 200), ("ntk", 60, 500), ("rf", 2000 if small else 10_000, 30)):
        theirs, ours, difference = cell(kind, n, d, k)
        ratio = theirs / ours
        text = f"{theirs:.1f} s and {ours:.3f} s: {ratio:.0f} x, S differs by {difference:.0e}"
        held = "-" if small else "yes" if ratio >= bar and difference < 1e-9 else "no"
        rows.append((f"{kind}, {k:,} units, N = {n}, d = {d}", text, f"{bar} x", held))
        print(rows[-1], flush=True)
    ours, plain, kept = gemm_share(n, d, 2048 if small else 8192)
    text = f"{ours:.1f} of {plain:.1f} GFLOP/s, {ours / plain:.0%}; with drawing the weights {kept * ours / plain:.0%}"
    rows.append(("rf kernel, weights at hand", text, "60 %", "yes" if ours >= 0.6 * plain else "no"))
    if importlib.util.find_spec("art") and importlib.util.find_spec("torch"):
        rows.append(("CLEVER of ART beside ours, 40 points", clever(), "-", "-"))
    else:
        rows.append(
            ("CLEVER of ART beside ours", "adversarial-robustness-toolbox is not installed", "-", "not measured")
        )
    lines = [
        "# Laws of robustness: speed",
        "",
        "CPU seconds of one process and one thread, one run; ours the best of six.",
        "",
    ]
    lines += ["| what | measured | bar | held |", "| --- | --- | --- | --- |"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    lines += [
        "",
        (
            "Random features are bound by two products with the weights, which the published arithmetic needs as well; its surplus, a "
            "diagonal matrix of the width squared and a pseudo-inverse, is BLAS too. On one thread that is all that can be saved."
        ),
    ]
    lines += [
        "",
        "The cell is the published script's arithmetic: Python functions entry by entry, explicit features, pseudo-inverse.",
    ]
    print("\n".join(lines))
    if not small:
        OUT.parent.mkdir(parents=True, exist_ok=True)
        OUT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
