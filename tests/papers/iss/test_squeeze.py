"""The squeezes do to pixels what the paper says, on every kind of picture."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from paperworks.errors import InputError, MissingExtra
from paperworks.papers.iss import codecs
from paperworks.papers.iss.squeeze import (
    JPEG,
    BitDepth,
    Blur,
    ChromaDepth,
    Codec,
    Compose,
    Grayscale,
    Resize,
    Transform,
    parse,
)

ALL: list[Transform] = [
    Grayscale(),
    BitDepth(2),
    BitDepth(3, centre=True),
    JPEG(10),
    JPEG(75, "4:4:4", "pillow"),
    Codec("WEBP", 20),
    Blur("gaussian"),
    Blur("mean"),
    Blur("median", 5),
    ChromaDepth(2),
    Resize(2),
    Compose((BitDepth(4), JPEG(30))),
]
pictures = hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3])))


def picture(seed: int = 0, shape: tuple[int, ...] = (32, 32, 3)) -> np.ndarray:
    """Smooth waves with noise on top, so that a codec has both to work on."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[-3], : shape[-2]]
    waves = 127 + 90 * np.sin(rows / 5 + rng.random())[..., None] * np.cos(columns / 7)[..., None]
    return np.clip(waves + rng.normal(0, 12, shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("squeeze", ALL, ids=repr)
@given(pixels=pictures)
def test_keeps_shape_and_type_and_leaves_the_input_alone(squeeze: Transform, pixels: np.ndarray) -> None:
    before = pixels.copy()
    out = squeeze(pixels)
    assert out.shape == pixels.shape
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(pixels, before)
    assert not np.shares_memory(out, pixels)


@given(pixels=pictures)
def test_gray_is_pillows_to_the_bit(pixels: np.ndarray) -> None:
    if pixels.shape[2] == 1:
        np.testing.assert_array_equal(Grayscale()(pixels), pixels)
    else:
        expected = np.asarray(Image.fromarray(pixels).convert("L"))
        for channel in range(3):
            np.testing.assert_array_equal(Grayscale()(pixels)[..., channel], expected)


@given(pixels=pictures, bits=st.integers(1, 8))
def test_bit_depth_keeps_the_top_bits(pixels: np.ndarray, bits: int) -> None:
    out = BitDepth(bits)(pixels)
    np.testing.assert_array_equal(out, pixels // 2 ** (8 - bits) * 2 ** (8 - bits))
    np.testing.assert_array_equal(BitDepth(bits)(out), out)
    centred = BitDepth(bits, centre=True)(pixels)
    assert np.all(np.abs(centred.astype(int) - pixels) <= 2 ** (8 - bits) / 2)


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("quality", [1, 10, 30, 75, 100])
@pytest.mark.parametrize("shape", [(32, 32, 3), (33, 17, 3), (1, 1, 3), (8, 5, 1)])
def test_opencv_gives_pillows_pixels(quality: int, subsampling: str, shape: tuple[int, int, int]) -> None:
    pytest.importorskip("cv2")
    for seed in range(3):
        pixels = picture(seed, shape)
        expected = JPEG(quality, subsampling, "pillow")(pixels)
        np.testing.assert_array_equal(JPEG(quality, subsampling, "opencv")(pixels), expected)


def test_jpeg_is_a_pillow_lambda() -> None:
    pixels = picture()
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=10)
    np.testing.assert_array_equal(JPEG(10)(pixels), np.asarray(Image.open(stream)))


def test_the_tables_are_those_of_quality_10() -> None:
    """Annex K scaled by 5000 // 10: the first entries are 80, 55, 50, 80, 120, 200, 255, 255."""
    stream = io.BytesIO()
    Image.fromarray(picture()).save(stream, "JPEG", quality=10)
    assert Image.open(stream).quantization[0][:8] == [80, 55, 50, 80, 120, 200, 255, 255]


def test_a_second_pass_changes_little() -> None:
    pixels = picture()
    once = JPEG(10)(pixels)
    twice = JPEG(10)(once)
    assert np.abs(once.astype(int) - twice).mean() < 0.2 * np.abs(once.astype(int) - pixels).mean()


def test_all_kinds_of_pictures_agree() -> None:
    torch = pytest.importorskip("torch")
    batch = np.stack([picture(seed) for seed in range(3)])
    squeeze = Compose((Grayscale(), JPEG(10)))
    expected = squeeze(batch)
    np.testing.assert_array_equal(np.stack([squeeze(one) for one in batch]), expected)
    np.testing.assert_array_equal(np.asarray(squeeze(Image.fromarray(batch[0]))), expected[0])
    tensors = torch.from_numpy(batch).movedim(-1, -3)
    np.testing.assert_array_equal(squeeze(tensors).movedim(-3, -1).numpy(), expected)
    np.testing.assert_array_equal(squeeze(tensors[0]).movedim(-3, -1).numpy(), expected[0])
    assert isinstance(squeeze(Image.fromarray(batch[0])), Image.Image)


def test_gray_pictures_keep_one_channel() -> None:
    gray = Image.fromarray(picture()[..., 0])
    for squeeze in ALL:
        out = squeeze(gray)
        assert (out.mode, out.size) == ("L", gray.size)
    assert JPEG(10)(picture()[..., 0]).shape == (32, 32)


def test_alpha_is_refused_or_kept_untouched() -> None:
    from paperworks.papers.iss.images import through

    rgba = Image.fromarray(np.dstack([picture(), picture(1)[..., 0]]))
    with pytest.raises(InputError, match="alpha"):
        JPEG(10)(rgba)
    kept = through(rgba, JPEG(10).pixels, keep_alpha=True)
    np.testing.assert_array_equal(np.asarray(kept)[..., 3], np.asarray(rgba)[..., 3])
    np.testing.assert_array_equal(np.asarray(kept)[..., :3], JPEG(10)(np.asarray(rgba)[..., :3].copy()))


def test_palette_and_cmyk_become_rgb_and_16_bits_are_refused() -> None:
    image = Image.fromarray(picture())
    assert JPEG(10)(image.convert("P")).mode == "RGB"
    assert JPEG(10)(image.convert("CMYK")).mode == "RGB"
    with pytest.raises(InputError, match="8 bits"):
        JPEG(10)(Image.fromarray(np.zeros((4, 4), np.uint16)))


def test_floats_and_odd_shapes_are_refused_with_a_reason() -> None:
    with pytest.raises(InputError, match=r"uint8.*float64.*255"):
        JPEG()(np.zeros((4, 4, 3)))
    with pytest.raises(InputError, match="1 or 3 channels"):
        JPEG()(np.zeros((4, 4, 2), np.uint8))
    with pytest.raises(InputError, match=r"\(N, H, W, C\)"):
        JPEG()(np.zeros(4, np.uint8))
    with pytest.raises(InputError, match="not builtins"):
        JPEG()("cat.png")


def test_gradients_are_not_lost_in_silence() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(InputError, match="differentiable_jpeg"):
        JPEG()(torch.zeros(3, 4, 4, requires_grad=True))
    with pytest.raises(InputError, match="uint8"):
        JPEG()(torch.zeros(3, 4, 4))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: JPEG(0), "1 to 100"),
        (lambda: JPEG(101), "1 to 100"),
        (lambda: JPEG(10.0), "whole number"),  # type: ignore[arg-type]
        (lambda: JPEG(10, "4:1:1"), "4:4:4"),
        (lambda: JPEG(10, backend="turbo"), "opencv"),
        (lambda: BitDepth(0), "1 to 8"),
        (lambda: BitDepth(9), "1 to 8"),
        (lambda: Blur("box"), "median"),
        (lambda: Blur(size=4), "odd"),
        (lambda: Blur(sigma=0.0), "above 0"),
        (lambda: Codec("GIF"), "AVIF"),
        (lambda: parse("jpg:10"), "there are jpeg"),
        (lambda: parse("bits:two"), "whole number"),
        (lambda: parse(" "), "cannot be empty"),
    ],
)
def test_wrong_settings_say_what_is_right(make: object, says: str) -> None:
    with pytest.raises(InputError, match=says):
        make()  # type: ignore[operator]


def test_a_backend_that_is_absent_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "find_spec", lambda name: None)
    assert codecs.jpeg_backend("auto") == "pillow"
    with pytest.raises(MissingExtra, match=r"paperworks\[images\]"):
        JPEG(backend="opencv")


@pytest.mark.parametrize("squeeze", ALL, ids=repr)
def test_survives_pickling_and_reads_back_from_its_repr(squeeze: Transform) -> None:
    assert pickle.loads(pickle.dumps(squeeze)) == squeeze
    assert eval(repr(squeeze)) == squeeze


def test_blurs_by_hand() -> None:
    spot = np.zeros((5, 5, 1), np.uint8)
    spot[2, 2] = 90
    assert Blur("mean")(spot)[1:4, 1:4, 0].tolist() == [[10] * 3] * 3
    assert not Blur("median")(spot).any()
    flat = np.full((2, 6, 6, 3), 77, np.uint8)
    for kind in ("gaussian", "mean", "median"):
        np.testing.assert_array_equal(Blur(kind)(flat), flat)


def test_filters_do_not_mix_pictures_of_a_batch() -> None:
    batch = np.stack([np.zeros((6, 6, 3), np.uint8), np.full((6, 6, 3), 255, np.uint8)])
    for squeeze in ALL:
        np.testing.assert_array_equal(squeeze(batch)[0], squeeze(batch[0]), err_msg=repr(squeeze))


def test_chroma_depth_keeps_the_luminance() -> None:
    pixels = np.clip(picture().astype(int) // 2 + 60, 0, 255).astype(np.uint8)  # nothing clips
    gray, squeezed = Grayscale()(pixels), Grayscale()(ChromaDepth(2)(pixels))
    assert np.abs(gray.astype(int) - squeezed).max() <= 1
