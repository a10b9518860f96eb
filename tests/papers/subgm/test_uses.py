"""What people bring: a video, ratings, a network of sensors; each against what they would do without."""

from __future__ import annotations

import numpy as np
import pytest

from paperworks.errors import InputError
from paperworks.papers.subgm import RobustMatrixCompletion, RobustPCA, uses


@pytest.mark.slow
@pytest.mark.parametrize("slow", [False, True])
def test_the_background_of_a_video_and_what_moves(slow: bool) -> None:
    video = uses.video(slow=slow)
    rows = video.frames.reshape(len(video.frames), -1)
    found = RobustPCA(n_components=2).fit(rows).low_rank_.reshape(video.frames.shape)
    median = np.abs(np.median(video.frames, axis=0) - video.background).mean()
    assert np.abs(found - video.background).mean() < 0.1 * median
    assert ((np.abs(video.frames - found) > 0.1) == video.moving).mean() > 0.999


def test_bought_ratings_are_found_and_the_rest_filled_in() -> None:
    ratings = uses.ratings(users=80, items=60)
    hidden = np.isnan(ratings.seen)
    model = RobustMatrixCompletion().fit(ratings.seen)
    item_means = np.broadcast_to(np.nanmean(ratings.seen, axis=0), ratings.truth.shape)

    def error(guess: np.ndarray) -> float:
        return float(np.sqrt(np.mean((guess - ratings.truth)[hidden] ** 2)))

    assert error(model.low_rank_) < 0.2 * error(item_means)
    clear = ratings.bought & (np.abs(ratings.seen - ratings.truth) > 0.5)
    assert model.outlier_mask_[clear].mean() > 0.95


def test_sensors_find_their_places_in_spite_of_echoes() -> None:
    network = uses.sensor_network(50)
    completed = RobustMatrixCompletion().fit(network.squared).low_rank_
    found = uses.after_motion(uses.places_from(completed), network.places)
    plain = np.where(np.isnan(network.squared), np.nanmean(network.squared), network.squared)
    naive = uses.after_motion(uses.places_from(plain), network.places)
    far = np.linalg.norm(found - network.places, axis=1).max()
    assert far < 0.02 < 0.1 * np.linalg.norm(naive - network.places, axis=1).max() + 0.02
    assert far < 0.1 * np.linalg.norm(naive - network.places, axis=1).max()


def test_scaling_of_exact_distances_is_exact() -> None:
    places = np.random.default_rng(0).random((12, 3))
    squared = np.square(places[:, None] - places[None]).sum(axis=-1)
    np.testing.assert_allclose(uses.after_motion(uses.places_from(squared, 3), places), places, atol=1e-9)


def test_made_data_is_seeded_and_says_what_is_wrong() -> None:
    for make in (uses.video, uses.ratings, uses.sensor_network):
        one, again, other = make(seed=3), make(seed=3), make(seed=4)
        for name in vars(one):
            np.testing.assert_array_equal(getattr(one, name), getattr(again, name))
        assert any(not np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True) for name in vars(one))
    network = uses.sensor_network()
    np.testing.assert_array_equal(network.squared, network.squared.T)
    ratings = uses.ratings()
    assert (ratings.seen[ratings.bought] == 5).all()
    assert ratings.truth.min() == 1
    assert ratings.truth.max() == 5
    video = uses.video(slow=True)
    assert (video.frames[video.moving] == 1).all()
    np.testing.assert_array_equal(video.frames[~video.moving], video.background[~video.moving])


def test_distances_with_holes_are_refused() -> None:
    with pytest.raises(InputError, match="RobustMatrixCompletion"):
        uses.places_from(uses.sensor_network().squared)
    with pytest.raises(InputError, match="square"):
        uses.places_from(np.zeros((3, 4)))
