"""Squeeze a folder of pictures into another one, with a manifest, so that it can be traced, resumed and rebuilt.

The output keeps the tree and the names. Every picture is written beside its place and renamed, then noted in `manifest.jsonl`, one
line a picture: source, SHA-256 of the source, output, squeeze, library versions. A second run does only what the manifest does not
vouch for. Orientation from EXIF is applied once; metadata is dropped; an ICC profile is kept.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError

from paperworks.errors import InputError
from paperworks.papers.iss.images import through
from paperworks.papers.iss.squeeze import Transform
from paperworks.progress import Progress, silent

log = logging.getLogger(__name__)
MANIFEST = "manifest.jsonl"
ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
CHUNK = 64  # pictures a worker takes at once: sending one costs more than squeezing a small one


@dataclass
class FolderReport:
    """What a run did: pictures squeezed now, kept from before, and bad ones with the reason."""

    squeezed: int = 0
    kept: int = 0
    bad: dict[str, str] = field(default_factory=dict)
    planned: int = 0


def squeeze_folder(
    source: Path | str,
    target: Path | str,
    squeeze: Transform,
    *,
    workers: int = 1,
    keep_jpeg: bool = False,
    keep_alpha: bool = False,
    dry_run: bool = False,
    progress: Progress = silent,
) -> FolderReport:
    """Squeeze every picture under `source` into `target` (made if absent), PNG out, names kept.

    workers: processes. keep_jpeg: a squeeze that is one JPEG pass is stored as that JPEG stream instead of as PNG of its pixels.
    keep_alpha: alpha channels are left as they are; else such pictures are listed as bad. dry_run: only count.
    A picture that cannot be read is skipped and listed in the report and in the manifest; it is tried again next time.
    Raises InputError if `source` is not a folder, `target` lies inside it or the other way round, `target` holds a manifest of another
    squeeze, or keep_jpeg is asked of another squeeze.
    """
    source, target = Path(source), Path(target)
    plan = list(_plan(source, target, squeeze, keep_jpeg))
    settings = {"squeeze": repr(squeeze), "keep_jpeg": keep_jpeg, "keep_alpha": keep_alpha}
    done = _read_manifest(target, settings)
    report = FolderReport(planned=len(plan))
    todo = [pair for pair in plan if not _vouched(pair, done, source, target)]
    report.kept = len(plan) - len(todo)
    progress(report.kept, len(plan), "kept from before")
    if dry_run:
        return report
    target.mkdir(parents=True, exist_ok=True)
    job = _Job(source, target, squeeze, keep_jpeg, keep_alpha)
    with open(target / MANIFEST, "a", encoding="utf-8") as manifest:
        if done.torn:
            manifest.write("\n")  # else the next line would be lost with the torn one
        if not done.lines:
            _note(manifest, {"settings": settings, "versions": _versions()})
        for count, entries in enumerate(_run(job, todo, workers), 1):
            for entry in entries:
                _note(manifest, entry)
                if "error" in entry:
                    report.bad[entry["source"]] = entry["error"]
                    log.warning("skipped %s: %s", entry["source"], entry["error"])
                else:
                    report.squeezed += 1
            progress(report.kept + report.squeezed + len(report.bad), len(plan), f"{count} chunks")
    return report


@dataclass(frozen=True)
class _Job:
    source: Path
    target: Path
    squeeze: Transform
    keep_jpeg: bool
    keep_alpha: bool


@dataclass
class _Done:
    lines: int = 0
    torn: bool = False  # the last line has no end
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)  # output name -> its line


def _plan(source: Path, target: Path, squeeze: Transform, keep_jpeg: bool) -> Iterator[tuple[str, str]]:
    """(source, output) names, relative; two sources never share an output."""
    from paperworks.papers.iss.squeeze import JPEG

    if not source.is_dir():
        raise InputError(f"{source} is not a folder of pictures")
    inside, outside = target.resolve(), source.resolve()
    if inside == outside or outside in inside.parents or inside in outside.parents:
        raise InputError(f"the output folder {target} and the input folder {source} must not lie inside one another")
    if keep_jpeg and not isinstance(squeeze, JPEG):
        raise InputError(f"keep_jpeg stores the JPEG stream of one JPEG squeeze; {squeeze!r} is another one")
    ending = ".jpg" if keep_jpeg else ".png"
    taken: set[str] = set()
    for path in _pictures(source):
        name = path.relative_to(source)
        out = name.with_suffix(ending).as_posix()
        again = 1
        while out.casefold() in taken:  # a.jpg beside a.png, or beside A.jpg on a disk that cannot tell them apart
            out = name.with_name(
                f"{name.stem}_{name.suffix[1:].lower()}{again if again > 1 else ''}{ending}"
            ).as_posix()
            again += 1
        taken.add(out.casefold())
        yield name.as_posix(), out


def _pictures(folder: Path) -> Iterator[Path]:
    """All pictures below, sorted; folders reached through links are not followed, so that no loop can catch us."""

    def fail(error: OSError) -> None:
        raise InputError(f"cannot read the folder {error.filename}: {error.strerror}") from error

    for root, folders, files in os.walk(folder, onerror=fail, followlinks=False):
        folders.sort()
        for name in sorted(files):
            if Path(name).suffix.lower() in ENDINGS:
                yield Path(root) / name


def _read_manifest(target: Path, settings: dict[str, Any]) -> _Done:
    done = _Done()
    path = target / MANIFEST
    if not path.exists():
        return done
    text = path.read_text(encoding="utf-8")
    done.torn = bool(text) and not text.endswith("\n")
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # the last line of a run that was killed; its picture is done again
        done.lines += 1
        if "settings" in entry and entry["settings"] != settings:
            raise InputError(
                f"{target} holds pictures of {entry['settings']['squeeze']}; choose another folder or empty it"
            )
        if "output" in entry and "error" not in entry:
            done.entries[entry["output"]] = entry
    return done


def _vouched(pair: tuple[str, str], done: _Done, source: Path, target: Path) -> bool:
    entry = done.entries.get(pair[1])
    if entry is None or entry["source"] != pair[0] or not (target / pair[1]).exists():
        return False
    stat = (source / pair[0]).stat()
    if entry["bytes"] == stat.st_size and entry["modified_ns"] == stat.st_mtime_ns:
        return True
    return bool(entry["sha256"] == hashlib.sha256((source / pair[0]).read_bytes()).hexdigest())


def _run(job: _Job, todo: list[tuple[str, str]], workers: int) -> Iterator[list[dict[str, Any]]]:
    chunks = [todo[at : at + CHUNK] for at in range(0, len(todo), CHUNK)]
    if workers <= 1 or len(chunks) <= 1:
        for chunk in chunks:
            yield _chunk(job, chunk)
        return
    with ProcessPoolExecutor(min(workers, len(chunks))) as pool:
        waiting: set[Future[list[dict[str, Any]]]] = set()
        ahead = iter(chunks)
        for chunk in ahead:
            waiting.add(pool.submit(_chunk, job, chunk))
            if len(waiting) < 4 * workers:
                continue
            ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in ready)
        while waiting:
            ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in ready)


def _chunk(job: _Job, pairs: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    return [_one(job, *pair) for pair in pairs]


def _one(job: _Job, source: str, output: str) -> dict[str, Any]:
    path = job.source / source
    entry: dict[str, Any] = {"source": source, "output": output}
    try:
        content, stat = path.read_bytes(), path.stat()
        entry |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": stat.st_size, "modified_ns": stat.st_mtime_ns}
        with Image.open(io.BytesIO(content)) as opened:
            profile = opened.info.get("icc_profile")
            image = ImageOps.exif_transpose(opened)
            stream = _encoded(job, image, profile)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        return entry | {"error": f"{type(error).__name__}: {error}"}
    place = job.target / output
    place.parent.mkdir(parents=True, exist_ok=True)
    half = place.with_name(f".{place.name}.{os.getpid()}.part")
    half.write_bytes(stream)
    half.replace(place)
    return entry


def _encoded(job: _Job, image: Image.Image, profile: bytes | None) -> bytes:
    stream = io.BytesIO()
    if job.keep_jpeg:
        from paperworks.papers.iss import codecs
        from paperworks.papers.iss.squeeze import JPEG

        assert isinstance(job.squeeze, JPEG)
        plain = through(image, lambda pixels: pixels)  # the same conversions and refusals as any squeeze
        plain.save(
            stream,
            "JPEG",
            quality=job.squeeze.quality,
            subsampling=codecs.SUBSAMPLINGS[job.squeeze.subsampling],
            icc_profile=profile,
        )
    else:
        squeezed = through(image, job.squeeze.pixels, keep_alpha=job.keep_alpha)
        squeezed.save(stream, "PNG", icc_profile=profile)
    return stream.getvalue()


def _versions() -> dict[str, str]:
    found = {}
    for name in ("paperworks", "pillow", "opencv-python-headless", "simplejpeg"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _note(manifest: Any, entry: dict[str, Any]) -> None:
    manifest.write(json.dumps(entry, sort_keys=True) + "\n")
    manifest.flush()
