"""Energy lands in the band it belongs to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from paperworks.errors import InputError
from paperworks.papers.iss.spectrum import band_energy, chroma_share, high_share


def test_a_constant_is_low_and_a_chessboard_high() -> None:
    flat = np.ones((2, 16, 16, 3))
    assert band_energy(flat)[0] == pytest.approx(1)
    board = (-1.0) ** np.add.outer(np.arange(16), np.arange(16))[None, :, :, None]
    assert band_energy(board).argmax() == 7
    assert high_share(flat) == pytest.approx(0, abs=1e-12)
    assert high_share(board) > 0.9


def test_white_noise_fills_the_bands_by_their_size() -> None:
    noise = np.random.default_rng(0).standard_normal((500, 16, 16, 3))
    assert 0.5 < high_share(noise) < 0.9
    assert chroma_share(noise) == pytest.approx(2 / 3, abs=0.01)


@given(hnp.arrays(np.float64, (2, 9, 17, 3), elements=st.floats(-1, 1)), st.floats(0.01, 100))
def test_shares_sum_to_one_and_do_not_depend_on_scale(delta: np.ndarray, scale: float) -> None:
    if np.square(delta[:, :8, :16]).sum() < 1e-6:
        return
    for block in (8, None):
        energy = band_energy(delta, block=block)
        assert energy.sum() == pytest.approx(1)
        np.testing.assert_allclose(band_energy(delta * scale, block=block), energy, atol=1e-9)


def test_gray_has_no_chroma() -> None:
    gray = np.random.default_rng(0).standard_normal((4, 8, 8, 1)).repeat(3, -1)
    assert chroma_share(gray) == pytest.approx(0, abs=1e-12)


def test_bad_input() -> None:
    with pytest.raises(InputError, match="zero everywhere"):
        band_energy(np.zeros((8, 8, 3)))
    with pytest.raises(InputError, match="zero everywhere"):
        chroma_share(np.zeros((8, 8, 3)))
    with pytest.raises(InputError, match="block=None"):
        band_energy(np.ones((4, 4, 3)))
    with pytest.raises(InputError, match=r"\(n, h, w, c\)"):
        band_energy(np.ones(4))
