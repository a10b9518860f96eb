"""Sign bits in words, their Hamming distances and the counting selection."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.squash import reference
from paperworks.papers.squash.signs import hamming, keep_nearest, n_words, pack_signs, sign_basis


@given(st.integers(1, 200), st.integers(0, 20), st.integers(0, 1000))
@settings(deadline=None)
def test_hamming_on_words_is_the_count_of_differing_signs(d, n, seed) -> None:
    rng = np.random.default_rng(seed)
    values = np.round(rng.standard_normal((n, d)), 0).astype(np.float32)  # many exact zeros
    query = rng.standard_normal((1, d)).astype(np.float32)
    words = pack_signs(values)
    assert words.shape == (n, n_words(d))
    plain = (reference.signs(values) != reference.signs(query)).sum(axis=1)
    np.testing.assert_array_equal(hamming(words, pack_signs(query)[0]), plain)
    rows = rng.integers(0, n, 7) if n else np.empty(0, dtype=np.int64)
    np.testing.assert_array_equal(hamming(words, pack_signs(query)[0], rows), plain[rows])


def test_bit_positions_and_padding_by_hand() -> None:
    values = -np.ones((1, 66), dtype=np.float32)
    values[0, [0, 3, 65]] = 1
    assert pack_signs(values).tolist() == [[0b1001, 0b10]]
    values[0] = 0  # zero is not above zero
    assert pack_signs(values).tolist() == [[0, 0]]


@given(st.lists(st.integers(0, 30), max_size=60), st.integers(0, 70))
@settings(deadline=None)
def test_counting_selection_keeps_what_sorting_keeps(distances, keep) -> None:
    values = np.array(distances, dtype=np.uint16)
    kept = keep_nearest(values, keep, 30)
    assert (np.diff(kept) > 0).all()
    np.testing.assert_array_equal(np.sort(values[kept]), np.sort(values)[:keep])
    np.testing.assert_array_equal(kept, np.sort(np.argsort(values, kind="stable")[:keep]))  # ties: the earlier rows


def test_more_rows_than_sixteen_bits_hold_are_kept() -> None:
    """The released code counts what it keeps in 16 bits, and so wraps above 65,535."""
    assert len(keep_nearest(np.zeros(200_000, dtype=np.uint16), 70_000, 8)) == 70_000


def test_the_choices_of_rotation() -> None:
    basis = np.eye(5, dtype=np.float32)[::-1].copy()
    assert sign_basis("pca", basis) is basis
    assert sign_basis(None, basis) is None
    turn = sign_basis("random", basis, seed=3)
    assert turn is not None
    np.testing.assert_allclose(turn @ turn.T, np.eye(5), atol=1e-5)
    np.testing.assert_array_equal(turn, sign_basis("random", basis, seed=3))
    with pytest.raises(InputError, match="sign_rotation"):
        sign_basis("hadamard", basis)
