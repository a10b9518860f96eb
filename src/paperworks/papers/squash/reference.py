"""The whole paper in plain NumPy, one function a step, with no thought for speed: what the fast version is tested against.

Build steps and search stages are numbered as in the paper's pipeline. Where the released code has a defect, the method is
followed and the line says so. `n` rows, `d` dimensions, `a` attributes (numbers, NaN = missing), `P` partitions, `C` cells.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from paperworks.papers.squash.quantiser import LLOYD_ITERATIONS, LLOYD_STOP, uniform_hash
from paperworks.papers.squash.signs import sign_basis

Predicate = tuple[int, str, float, float | None]
"""Attribute, operator (< <= = > >= B), operand, second operand of B: first < value <= second, as in the released code."""


# ------------------------------------------------------------------------------------------------------------ build


def karhunen_loeve(X: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Step 3: mean (d,), basis (d, d) with eigenvectors in columns, variances (d,) falling. y = (x - mean) @ basis."""
    mean = X.mean(axis=0)
    variance, basis = np.linalg.eigh((X - mean).T @ (X - mean) / len(X))
    return (
        mean,
        basis[:, ::-1],
        variance[::-1].clip(min=0),
    )  # the released code multiplies by the transpose of this basis


def allocate(variance: np.ndarray, budget: int, cap: int = 8) -> np.ndarray:
    """Step 4: a bit to the largest energy, which it quarters; a full dimension leaves (the released code loses its bits)."""
    energy, bits = variance.astype(float).copy(), np.zeros(len(variance), dtype=np.uint8)
    for _ in range(budget):
        j = int(np.argmax(np.where(bits < cap, energy, -np.inf)))
        bits[j] += 1
        energy[j] /= 4
    return bits


def equal_edges(values: np.ndarray, cells: int) -> np.ndarray:
    """Step 5, start: edges (cells + 1,) between equally many values. Ends are the least and largest value, not 0.001 beyond."""
    ordered = np.sort(values)
    inner = [ordered[min(len(values) - 1, -(-c * len(values) // cells))] for c in range(1, cells)]
    return np.array([ordered[0], *inner, ordered[-1]], dtype=np.float32)


def lloyd(values: np.ndarray, edges: np.ndarray, key: int = 0) -> np.ndarray:
    """Step 5: edges midway between the cell means, until the squared error changes by less than half a percent."""
    edges, cells, before = edges.copy(), len(edges) - 1, np.inf
    for round_no in range(LLOYD_ITERATIONS):
        code = encode(values, edges)
        points, error = np.empty(cells), 0.0
        for c in range(cells):
            inside = values[code == c].astype(float)
            chance = values.min() + (float(values.max()) - values.min()) * uniform_hash(key + round_no * cells + c)
            points[c] = inside.mean() if len(inside) else chance
            error += ((inside - points[c]) ** 2).sum()
        points.sort()
        edges[1:-1] = (points[:-1] + points[1:]) / 2
        if np.isfinite(before) and abs(before - error) <= LLOYD_STOP * before:
            break
        before = error
    return edges


def encode(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Step 5: the cell of each value; beyond the ends, the end cells."""
    return np.searchsorted(edges[1:-1], values, side="right")


def pack(codes: np.ndarray, bits: np.ndarray, width: int = 8) -> np.ndarray:
    """Step 7: codes (n, d) written as one text of bits a row, cut every `width` bits: segment-major (G, n) uint64."""
    rows = []
    for row in codes:
        text = "".join(format(int(code), f"0{b}b") for code, b in zip(row, bits.tolist(), strict=True) if b)
        text += "0" * (-len(text) % width)
        rows.append([int(text[at : at + width], 2) for at in range(0, len(text), width)])
    return np.array(rows, dtype=np.uint64).reshape(len(codes), -1).T


def extract(segments: np.ndarray, bits: np.ndarray, j: int, width: int = 8) -> np.ndarray:
    """Step 7: the column of dimension j (n,), from one segment or from the two that it straddles."""
    before, b = sum(bits[:j].tolist()), int(bits[j])
    s, r = divmod(before, width)
    if b == 0:
        return np.zeros(segments.shape[1], dtype=int)
    first = segments[s].astype(int)
    if r + b <= width:
        return ((first << r) % (1 << width)) >> (width - b)
    h = width - r
    return ((first % (1 << h)) << (b - h)) | (segments[s + 1].astype(int) >> (width - (b - h)))


def signs(values: np.ndarray) -> np.ndarray:
    """Step 8: one bit a dimension, 1 above the mean (the values are centred)."""
    return values > 0


def partition(X: np.ndarray, count: int, rng: np.random.Generator, rounds: int = 30) -> np.ndarray:
    """Step 2: k-means with cluster sizes of 0.9 to 1.1 n / P; rows with most to lose choose first. Labels (n,).

    The paper solves for the cheapest flow. Here a cluster is full at 1.1, and the last rows must fill those below 0.9.
    """
    cap, floor = -(-11 * len(X) // (10 * count)), max(1, 9 * len(X) // (10 * count))
    centres, labels = X[rng.choice(len(X), count, replace=False)], np.zeros(len(X), dtype=int)
    for _ in range(rounds):
        squares = ((X[:, None] - centres) ** 2).sum(axis=2)
        two = np.sort(squares, axis=1)[:, :2]
        sizes = np.zeros(count, dtype=int)
        for done, i in enumerate(np.argsort(two[:, 0] - two[:, -1], kind="stable")):
            scarce = len(X) - done <= np.maximum(0, floor - sizes).sum()
            labels[i] = np.argmin(np.where(sizes < (floor if scarce else cap), squares[i], np.inf))
            sizes[labels[i]] += 1
        centres = np.array([X[labels == p].mean(axis=0) if (labels == p).any() else centres[p] for p in range(count)])
    return labels


@dataclass
class Part:
    """One partition: where its rows are, and everything the processor of it holds."""

    rows: np.ndarray
    mean: np.ndarray
    basis: np.ndarray
    bits: np.ndarray
    edges: list[np.ndarray]
    segments: np.ndarray
    sign_turn: np.ndarray
    sign_bits: np.ndarray


@dataclass
class Reference:
    """The built index. width is the segment size in bits."""

    X: np.ndarray
    attributes: np.ndarray
    attribute_edges: list[np.ndarray]
    attribute_codes: np.ndarray
    centroids: np.ndarray
    parts: list[Part]
    width: int


def build(
    X: np.ndarray,
    attributes: np.ndarray | None = None,
    *,
    budget: int | None = None,
    cap: int = 8,
    partitions: int = 1,
    width: int = 8,
    sign_rotation: str | None = "random",
    allocation: str = "greedy",
    boundaries: str = "lloyd",
    seed: int = 0,
) -> Reference:
    """Steps 1 to 8. budget: bits a vector, 4 d by default. allocation "greedy" or "uniform", boundaries "lloyd" or "equal"."""
    X = np.asarray(X, dtype=np.float32)
    n, d = X.shape
    budget = 4 * d if budget is None else budget
    A = np.zeros((n, 0)) if attributes is None else np.asarray(attributes, dtype=float)
    labels = partition(X, partitions, np.random.default_rng(seed)) if partitions > 1 else np.zeros(n, dtype=int)
    parts = []
    for p in range(partitions):
        rows = np.flatnonzero(labels == p)
        mean, basis, variance = karhunen_loeve(X[rows].astype(float))
        Y = ((X[rows] - mean) @ basis).astype(np.float32)
        bits = allocate(variance, budget, cap) if allocation == "greedy" else np.full(d, budget // d, dtype=np.uint8)
        edges = [equal_edges(Y[:, j], 1 << int(b)) for j, b in enumerate(bits)]
        if boundaries == "lloyd":
            edges = [lloyd(Y[:, j], e, key=seed + (j << 20)) for j, e in enumerate(edges)]
        codes = np.array([encode(Y[:, j], e) for j, e in enumerate(edges)]).T
        turn = sign_basis(sign_rotation, basis, seed)
        turn = np.eye(d) if turn is None else turn
        parts.append(
            Part(rows, mean, basis, bits, edges, pack(codes, bits, width), turn, signs((X[rows] - mean) @ turn))
        )
    # Step 6: attributes are quantised once for all rows; missing ones stand outside of the cells.
    known = [A[~np.isnan(A[:, j]), j] for j in range(A.shape[1])]
    a_edges = [lloyd(v, equal_edges(v, 256)) if len(v) else np.zeros(2, dtype=np.float32) for v in known]
    a_codes = np.array([encode(A[:, j], e) for j, e in enumerate(a_edges)]).reshape(len(a_edges), n)
    centroids = np.array([X[part.rows].mean(axis=0) for part in parts])
    return Reference(X, A, a_edges, a_codes, centroids, parts, width)


# ----------------------------------------------------------------------------------------------------------- search


def holds(values: np.ndarray, predicate: Predicate) -> np.ndarray:
    """The predicate on raw values; NaN never holds."""
    _, operator, x, y = predicate
    if operator == "B":
        return (values > x) & (values <= (np.inf if y is None else y))
    compare = {"<": np.less, "<=": np.less_equal, "=": np.equal, ">": np.greater, ">=": np.greater_equal}
    return np.asarray(compare[operator](values, x))


def possible_cells(edges: np.ndarray, predicate: Predicate) -> np.ndarray:
    """Stage 0: which cells (C,) may hold a match. A cell holds values from its edge to the next; boundary cells count."""
    _, operator, x, y = predicate
    low, high = edges[:-1].astype(float), edges[1:].astype(float)
    low[0], high[-1] = -np.inf, np.inf
    upper = {"<": x, "<=": x, "=": x, "B": np.inf if y is None else y}.get(operator, np.inf)
    lower = {">": x, ">=": x, "=": x, "B": x}.get(operator, -np.inf)
    return (high >= lower) & (low <= upper)


def candidates(index: Reference, predicates: list[Predicate], *, verify: bool = True) -> np.ndarray:
    """Stage 0: rows (n,) bool that pass by their attribute codes, every predicate.

    verify=True also checks the raw values, so that a row which only shares a cell with a match is not counted; False is the
    paper, whose guarantee of k candidates then counts such rows too.
    """
    passing = np.ones(len(index.X), dtype=bool)
    for predicate in predicates:
        column = predicate[0]
        passing &= possible_cells(index.attribute_edges[column], predicate)[index.attribute_codes[column]]
        passing &= ~np.isnan(index.attributes[:, column])
        if verify:
            passing &= holds(index.attributes[:, column], predicate)
    return passing


def visited(index: Reference, query: np.ndarray, passing: np.ndarray, k: int, T: float) -> list[int]:
    """Stage 0: partitions in ascending centroid distance; one beyond T times the smallest is left out only when the candidates
    so far are enough. Known before any partition is searched: the single pass."""
    distances = np.sqrt(((index.centroids - query) ** 2).sum(axis=1))
    wanted, issued, chosen = min(k, int(passing.sum())), 0, []
    for p in np.argsort(distances, kind="stable"):
        if distances[p] > T * distances.min() and issued >= wanted:
            break
        here = int(passing[index.parts[p].rows].sum())
        issued += here
        if here:
            chosen.append(int(p))
    return chosen


def bounds(y: np.ndarray, edges: list[np.ndarray], codes: np.ndarray, *, symmetric: bool = False) -> np.ndarray:
    """Stage 2: squared lower and upper bounds (2, n) of the rows with codes (n, d). symmetric: the query is quantised too."""
    lower, upper = np.zeros(len(codes)), np.zeros(len(codes))
    for j, edge in enumerate(edges):
        c = encode(y[j], edge)
        near, far = (min(edge[c], y[j]), max(edge[c + 1], y[j])) if symmetric else (y[j], y[j])
        start, stop = edge[codes[:, j]].astype(float), edge[codes[:, j] + 1].astype(float)
        lower += np.maximum(0, np.maximum(start - far, near - stop)) ** 2
        upper += np.maximum(stop - near, far - start) ** 2
    return np.stack([lower, upper])


@dataclass
class Answer:
    """distances (<= k,) float64 ascending, ids (<= k,), and how many rows each stage saw."""

    distances: np.ndarray
    ids: np.ndarray
    stages: dict[str, int] = field(default_factory=dict)


def search(
    index: Reference,
    query: np.ndarray,
    k: int = 10,
    predicates: list[Predicate] | None = None,
    *,
    T: float = 1.3,
    H: float = 10.0,
    R: float = 2.0,
    hamming: bool = True,
    refine: bool = True,
    symmetric: bool = False,
    exact: bool = False,
    verify: bool = True,
) -> Answer:
    """The k nearest rows to query (d,) among those that meet every predicate.

    hamming, refine, symmetric, verify: ablations. exact: every partition, no Hamming stage, rows in order of their lower bound
    until it exceeds the k-th distance: the true answer. H percent, T and R factors.
    """
    predicates = predicates or []
    passing = candidates(index, predicates, verify=verify or exact)
    counts = {"candidates": 0, "bounded": 0, "refined": 0}
    found_distances, found_ids = [np.zeros(0)], [np.zeros(0, dtype=int)]
    parts = visited(index, query, passing, k, np.inf if exact else T)
    for part in (index.parts[p] for p in parts):
        local = np.flatnonzero(passing[part.rows])
        counts["candidates"] += len(local)
        if hamming and not exact:  # Stage 1
            differ = (part.sign_bits[local] != signs((query - part.mean) @ part.sign_turn)).sum(axis=1)
            keep = max(int(len(local) * H / 100), int(np.ceil(k * R * H)))
            local = local[np.argsort(differ, kind="stable")[:keep]]
        counts["bounded"] += len(local)
        y = (query - part.mean) @ part.basis  # Stage 2
        codes = np.array([extract(part.segments[:, local], part.bits, j, index.width) for j in range(len(y))]).T
        lower = np.sqrt(bounds(y, part.edges, codes, symmetric=symmetric)[0])
        order = np.argsort(lower, kind="stable")
        local, lower = local[order], lower[order]
        if not exact:
            local, lower = local[: int(np.ceil(k * R))], lower[: int(np.ceil(k * R))]
        rows, best = part.rows[local], np.zeros(0)
        distances = lower
        if refine or exact:  # Stage 3
            distances = np.full(len(rows), np.inf)
            for i, row in enumerate(rows):
                if exact and len(best) == k and lower[i] * (1 - 1e-6) > best[-1]:  # rounding of stored values
                    break
                distances[i] = np.sqrt(((index.X[row].astype(float) - query) ** 2).sum())
                best = np.sort([*best, distances[i]])[:k]
                counts["refined"] += 1
        for predicate in predicates:  # the released code puts failing rows back when fewer than k pass; never here
            distances = np.where(holds(index.attributes[rows, predicate[0]], predicate), distances, np.inf)
        found_distances.append(distances)
        found_ids.append(rows)
    distances, ids = np.concatenate(found_distances), np.concatenate(found_ids)  # the allocator merges
    order = np.argsort(distances, kind="stable")[:k]
    order = order[np.isfinite(distances[order])]
    return Answer(distances[order], ids[order], {"partitions": len(parts), **counts})


def brute_force(
    X: np.ndarray, query: np.ndarray, k: int, passing: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The true answer: distances (<= k,) float64 and rows (<= k,)."""
    rows = np.arange(len(X)) if passing is None else np.flatnonzero(passing)
    distances = np.sqrt(((X[rows].astype(float) - query) ** 2).sum(axis=1))
    order = np.argsort(distances, kind="stable")[:k]
    return distances[order], rows[order]
