"""A squeezed folder: names kept, bad files listed, nothing done twice, nothing half-written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paperworks.errors import InputError
from paperworks.papers.iss import folder
from paperworks.papers.iss.folder import MANIFEST, squeeze_folder
from paperworks.papers.iss.squeeze import JPEG, BitDepth, Grayscale


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (12, 10, 3), dtype=np.uint8)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    source = tmp_path / "in"
    (source / "cat").mkdir(parents=True)
    (source / "dog").mkdir()
    for index in range(6):
        Image.fromarray(picture(index)).save(source / ("cat" if index % 2 else "dog") / f"{index}.png")
    (source / "cat" / "notes.txt").write_text("not a picture")
    return source


def lines(target: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (target / MANIFEST).read_text().splitlines()]


@pytest.mark.parametrize("workers", [1, 2])
def test_keeps_the_tree_and_squeezes_every_picture(
    pictures: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "CHUNK", 2)
    target = pictures.parent / "out"
    report = squeeze_folder(pictures, target, JPEG(10), workers=workers)
    assert (report.squeezed, report.kept, report.bad) == (6, 0, {})
    for index in range(6):
        squeezed = np.asarray(Image.open(target / ("cat" if index % 2 else "dog") / f"{index}.png"))
        np.testing.assert_array_equal(squeezed, JPEG(10)(picture(index)))
    assert lines(target)[0]["settings"] == {"squeeze": repr(JPEG(10)), "keep_jpeg": False, "keep_alpha": False}
    assert len({str(line["sha256"]) for line in lines(target)[1:]}) == 6


def test_a_second_run_does_only_what_changed(pictures: Path) -> None:
    target = pictures.parent / "out"
    squeeze_folder(pictures, target, BitDepth(2))
    (target / "dog" / "0.png").unlink()
    Image.fromarray(picture(99)).save(pictures / "cat" / "1.png")
    (pictures / "cat" / "3.png").touch()  # another time, the same bytes
    report = squeeze_folder(pictures, target, BitDepth(2))
    assert (report.squeezed, report.kept) == (2, 4)
    np.testing.assert_array_equal(np.asarray(Image.open(target / "cat" / "1.png")), BitDepth(2)(picture(99)))


def test_a_killed_run_goes_on_where_it_was(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = pictures.parent / "out"
    monkeypatch.setattr(folder, "CHUNK", 1)
    written = folder._note
    left = [4]

    def note(manifest: object, entry: dict[str, object]) -> None:
        if not left[0]:
            manifest.write('{"half": ')  # type: ignore[attr-defined]
            manifest.flush()  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        left[0] -= 1
        written(manifest, entry)

    monkeypatch.setattr(folder, "_note", note)
    with pytest.raises(KeyboardInterrupt):
        squeeze_folder(pictures, target, Grayscale())
    monkeypatch.setattr(folder, "_note", written)
    report = squeeze_folder(pictures, target, Grayscale())
    assert (report.squeezed, report.kept) == (3, 3)
    assert not list(target.rglob("*.part"))
    assert {path.name for path in target.rglob("*.png")} == {f"{index}.png" for index in range(6)}
    assert squeeze_folder(pictures, target, Grayscale()).kept == 6


def test_bad_files_are_listed_and_tried_again(pictures: Path) -> None:
    target = pictures.parent / "out"
    (pictures / "zero.png").write_bytes(b"")
    whole = (pictures / "dog" / "0.png").read_bytes()
    (pictures / "cut.png").write_bytes(whole[: len(whole) // 2])
    report = squeeze_folder(pictures, target, JPEG(10))
    assert (report.squeezed, set(report.bad)) == (6, {"zero.png", "cut.png"})
    assert not (target / "zero.png").exists()
    (pictures / "zero.png").write_bytes(whole)
    report = squeeze_folder(pictures, target, JPEG(10))
    assert (report.squeezed, report.kept, set(report.bad)) == (1, 6, {"cut.png"})


def test_names_that_would_collide_stay_apart(pictures: Path) -> None:
    Image.fromarray(picture(7)).save(pictures / "dog" / "0.jpg")
    Image.fromarray(picture(8)).save(pictures / "dog" / "0_png.png")
    target = pictures.parent / "out"
    report = squeeze_folder(pictures, target, Grayscale())
    assert report.squeezed == 8
    outputs = [line["output"] for line in lines(target)[1:]]
    assert len(set(outputs)) == 8
    assert all((target / str(name)).exists() for name in outputs)


def test_keep_jpeg_stores_the_stream_that_decodes_to_the_same_pixels(pictures: Path) -> None:
    target = pictures.parent / "out"
    squeeze_folder(pictures, target, JPEG(10), keep_jpeg=True)
    stored = Image.open(target / "dog" / "0.jpg")
    assert stored.format == "JPEG"
    np.testing.assert_array_equal(np.asarray(stored), JPEG(10)(picture(0)))
    with pytest.raises(InputError, match="one JPEG squeeze"):
        squeeze_folder(pictures, pictures.parent / "other", Grayscale(), keep_jpeg=True)


def test_orientation_is_applied_once_and_metadata_dropped(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.fromarray(picture(0)).save(tmp_path / "in" / "a.png", exif=exif)
    squeeze_folder(tmp_path / "in", tmp_path / "out", BitDepth(8))
    out = Image.open(tmp_path / "out" / "a.png")
    np.testing.assert_array_equal(np.asarray(out), np.rot90(picture(0), -1))
    assert not dict(out.getexif())


def test_alpha_is_bad_unless_kept(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(np.dstack([picture(0), picture(1)[..., :1]])).save(tmp_path / "in" / "a.png")
    assert "alpha" in squeeze_folder(tmp_path / "in", tmp_path / "out", JPEG(10)).bad["a.png"]
    assert squeeze_folder(tmp_path / "in", tmp_path / "out2", JPEG(10), keep_alpha=True).squeezed == 1


def test_folders_that_cannot_be_right_are_refused(pictures: Path) -> None:
    for target in (pictures, pictures / "out", pictures.parent):
        with pytest.raises(InputError, match="inside one another"):
            squeeze_folder(pictures, target, JPEG(10))
    with pytest.raises(InputError, match="not a folder"):
        squeeze_folder(pictures / "none", pictures.parent / "out", JPEG(10))
    squeeze_folder(pictures, pictures.parent / "out", JPEG(10))
    with pytest.raises(InputError, match=r"JPEG\(quality=10"):
        squeeze_folder(pictures, pictures.parent / "out", JPEG(20))


def test_dry_run_writes_nothing(pictures: Path) -> None:
    report = squeeze_folder(pictures, pictures.parent / "out", JPEG(10), dry_run=True)
    assert (report.planned, report.squeezed) == (6, 0)
    assert not (pictures.parent / "out").exists()


def test_links_that_loop_are_not_followed(pictures: Path) -> None:
    (pictures / "cat" / "loop").symlink_to(pictures)
    assert squeeze_folder(pictures, pictures.parent / "out", Grayscale()).squeezed == 6
