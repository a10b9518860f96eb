"""Three uses with made-up data whose truth is known: the background of a video, ratings of which some are bought, places of sensors.

Frames of a fixed camera, flattened to rows, are a table of low rank (the background, as its light changes) with gross errors (what moves).
Ratings are users times tastes. Squared distances between points in a plane are a table of rank 4, whichever the points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paperworks.errors import InputError


@dataclass(frozen=True)
class Video:
    """frames (n, h, w) as seen, background (n, h, w) without what moves, moving bool (n, h, w). Values from 0 to about 1."""

    frames: np.ndarray
    background: np.ndarray
    moving: np.ndarray


def video(n: int = 80, height: int = 24, width: int = 32, *, slow: bool = False, seed: int = 0) -> Video:
    """A fixed camera on a textured scene whose light comes and goes, with two boxes that cross it.

    slow: one of the boxes stands still for the middle third, so that a median over time takes it for background.
    """
    rng = np.random.default_rng(seed)
    scene, shade = rng.uniform(0.3, 0.7, (2, height, width))
    light = 0.8 + 0.2 * np.sin(np.linspace(0, 3 * np.pi, n))
    background = light[:, None, None] * scene + (1 - light)[:, None, None] * shade
    moving = np.zeros((n, height, width), bool)
    tall, wide = height // 6, width // 8
    for frame in range(n):
        share = frame / max(1, n - 1)
        if slow:
            share = min(share, 1 / 3) if share < 2 / 3 else 2 * share - 1
        left = int(share * (width - wide))
        moving[frame, 2 : 2 + tall, left : left + wide] = True
        right = int((1 - frame / max(1, n - 1)) * (width - wide))
        moving[frame, height - 2 - tall : height - 2, right : right + wide] = True
    return Video(np.where(moving, 1.0, background), background, moving)


@dataclass(frozen=True)
class Ratings:
    """seen (users, items) with NaN where nobody rated; truth (users, items); bought bool (users, items), false ratings."""

    seen: np.ndarray
    truth: np.ndarray
    bought: np.ndarray


def ratings(
    users: int = 120, items: int = 80, tastes: int = 3, *, rated: float = 0.4, bought: float = 0.1, seed: int = 0
) -> Ratings:
    """Opinions from 1 to 5 out of a few tastes; of the cells that are rated a share is bought praise, 5 whatever the opinion."""
    rng = np.random.default_rng(seed)
    truth = rng.gamma(2.0, 1.0, (users, tastes)) @ rng.gamma(2.0, 1.0, (tastes, items))
    truth = 1 + 4 * (truth - truth.min()) / (truth.max() - truth.min())
    is_bought = rng.random((users, items)) < bought
    seen = np.where(is_bought, 5.0, truth)
    hidden = rng.random((users, items)) >= rated
    return Ratings(np.where(hidden, np.nan, seen), truth, is_bought & ~hidden)


@dataclass(frozen=True)
class Network:
    """places (n, 2) of sensors; squared (n, n) squared distances as measured, NaN where unheard; wrong bool (n, n), symmetric."""

    places: np.ndarray
    squared: np.ndarray
    wrong: np.ndarray


def sensor_network(n: int = 60, *, heard: float = 0.7, wrong: float = 0.1, seed: int = 0) -> Network:
    """Sensors in the unit square; of the pairs that hear each other some distances are echoes, up to three times too long."""
    rng = np.random.default_rng(seed)
    places = rng.random((n, 2))
    true = np.square(places[:, None] - places[None]).sum(axis=-1)
    upper = np.triu(np.ones((n, n), bool), 1)
    echo = upper & (rng.random((n, n)) < wrong)
    longer = np.where(echo, np.square(rng.uniform(1.5, 3.0, (n, n))), 1.0)
    silent = upper & (rng.random((n, n)) >= heard)
    squared = np.where(silent, np.nan, true * longer)
    lower = np.tril(np.ones((n, n), bool), -1)
    squared = np.where(lower, squared.T, squared)
    return Network(places, squared, (echo & ~silent) | (echo & ~silent).T)


def places_from(squared: np.ndarray, dimensions: int = 2) -> np.ndarray:
    """Points (n, dimensions) with these squared distances (n, n), up to a motion: classical multidimensional scaling.

    Raises InputError for a table that is not square or has missing cells: complete it first.
    """
    squared = np.asarray(squared, float)
    if squared.ndim != 2 or squared.shape[0] != squared.shape[1] or not np.isfinite(squared).all():
        raise InputError(
            "squared distances are a full square table; fill missing cells with RobustMatrixCompletion first"
        )
    squared = (squared + squared.T) / 2
    centred = squared - squared.mean(axis=0) - squared.mean(axis=1)[:, None] + squared.mean()
    values, vectors = np.linalg.eigh(-centred / 2)
    return vectors[:, ::-1][:, :dimensions] * np.sqrt(np.maximum(values[::-1][:dimensions], 0))


def after_motion(found: np.ndarray, places: np.ndarray) -> np.ndarray:
    """`found` (n, d) turned, mirrored and shifted onto `places` (n, d) as well as can be (orthogonal Procrustes)."""
    centre = places.mean(axis=0)
    left, _, right = np.linalg.svd((found - found.mean(axis=0)).T @ (places - centre))
    return (found - found.mean(axis=0)) @ left @ right + centre
