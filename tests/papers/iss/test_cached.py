"""What was squeezed once is only read again, and it is the same picture."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from paperworks.errors import InputError
from paperworks.papers.iss.cached import SqueezedDataset, squeeze_batch
from paperworks.papers.iss.squeeze import JPEG, BitDepth, Grayscale, Transform

PICTURES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
Pair = namedtuple("Pair", ["image", "label"])


class Counted(Transform):
    """A squeeze that counts its pictures."""

    def __init__(self) -> None:
        self.calls = 0

    def __repr__(self) -> str:
        return "Counted()"

    def pixels(self, image: np.ndarray) -> np.ndarray:
        self.calls += 1
        return image // 2


@pytest.mark.parametrize(("cache", "calls"), [("memory", 5), ("disk", 5), ("none", 10)])
def test_squeezes_once_where_it_keeps(cache: Any, calls: int, tmp_path: Path) -> None:
    squeeze = Counted()
    data = SqueezedDataset(
        [(picture, 1) for picture in PICTURES], squeeze, cache=cache, folder=tmp_path if cache == "disk" else None
    )
    for _ in range(2):
        for index in range(len(data)):
            picture, label = data[index]
            np.testing.assert_array_equal(picture, PICTURES[index] // 2)
            assert label == 1
    assert squeeze.calls == calls


def test_files_outlive_the_process_and_belong_to_pixels_and_squeeze(tmp_path: Path) -> None:
    SqueezedDataset(list(PICTURES), JPEG(10), cache="disk", folder=tmp_path).fill()
    assert len(list(tmp_path.rglob("*.npy"))) == 5
    again = SqueezedDataset(list(PICTURES[::-1]), JPEG(10), cache="disk", folder=tmp_path).fill()
    assert len(list(tmp_path.rglob("*.npy"))) == 5
    np.testing.assert_array_equal(again[0], JPEG(10)(PICTURES[4]))
    SqueezedDataset(list(PICTURES), BitDepth(2), cache="disk", folder=tmp_path).fill()
    assert len(list(tmp_path.rglob("*.npy"))) == 10


def test_a_file_cut_short_is_made_again(tmp_path: Path) -> None:
    data = SqueezedDataset(list(PICTURES[:1]), JPEG(10), cache="disk", folder=tmp_path)
    expected = data[0]
    (file,) = tmp_path.rglob("*.npy")
    file.write_bytes(file.read_bytes()[:90])
    np.testing.assert_array_equal(data[0], expected)


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_every_kind_of_item_comes_back_as_it_was(cache: Any, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(PICTURES[0]).movedim(-1, 0)
    items: list[Any] = [
        (PICTURES[0], 3),
        [PICTURES[0], 3],
        {"image": PICTURES[0], "label": 3},
        Pair(PICTURES[0], 3),
        PICTURES[0],
        Image.fromarray(PICTURES[0]),
        tensor,
    ]
    data = SqueezedDataset(items, Grayscale(), cache=cache, folder=tmp_path if cache == "disk" else None)
    for item, out in zip(items, (data[index] for index in range(len(items))), strict=True):
        assert type(out) is type(item)
    np.testing.assert_array_equal(np.asarray(data[5]), data[4])
    np.testing.assert_array_equal(data[6].movedim(0, -1).numpy(), data[4])
    assert data[3].label == 3


def test_the_transform_after_it_is_not_cached() -> None:
    calls: list[int] = []

    def flip(picture: np.ndarray) -> np.ndarray:
        calls.append(1)
        return picture[:, ::-1]

    data = SqueezedDataset([(picture, 0) for picture in PICTURES], Grayscale(), transform=flip)
    for _ in range(3):
        np.testing.assert_array_equal(data[0][0], Grayscale()(PICTURES[0])[:, ::-1])
    assert len(calls) == 3


def test_works_in_the_workers_of_a_loader(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    tensors = [(torch.from_numpy(picture).movedim(-1, 0), index) for index, picture in enumerate(PICTURES)]
    data = SqueezedDataset(tensors, JPEG(10), cache="disk", folder=tmp_path)
    batches = list(torch.utils.data.DataLoader(data, batch_size=5, num_workers=2))
    np.testing.assert_array_equal(batches[0][0].movedim(1, -1).numpy(), JPEG(10)(PICTURES))


def test_maps_over_a_datasets_dataset_with_a_stable_fingerprint() -> None:
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_dict(
        {"image": [Image.fromarray(picture) for picture in PICTURES], "label": [0, 1, 2, 3, 4]}
    )
    once = table.map(squeeze_batch, batched=True, fn_kwargs={"squeeze": Grayscale()})
    again = table.map(squeeze_batch, batched=True, fn_kwargs={"squeeze": Grayscale()})
    assert once._fingerprint == again._fingerprint
    np.testing.assert_array_equal(np.asarray(once[2]["image"]), Grayscale()(PICTURES[2]))
    assert once["label"] == table["label"]


def test_bad_settings_and_items() -> None:
    with pytest.raises(InputError, match="memory, disk or none"):
        SqueezedDataset([], JPEG(10), cache="ram")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="folder="):
        SqueezedDataset([], JPEG(10), cache="disk")
    with pytest.raises(InputError, match=r"'image'.*pixels.*key="):
        SqueezedDataset([{"pixels": PICTURES[0]}], JPEG(10))[0]
    with pytest.raises(InputError, match="empty"):
        SqueezedDataset([()], JPEG(10))[0]
    with pytest.raises(InputError, match="no column"):
        squeeze_batch({"img": []}, JPEG(10))
