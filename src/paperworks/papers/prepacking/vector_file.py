"""Vectors of millions of texts in one `.npy` file, written as they come, and gone on with after an interruption.

While the work lasts there are `<name>.part` (the array, its header still empty) and `<name>.done`: first a line that says how the
vectors are made, then a line for each window that lies safely on disk, with a checksum of its texts. In the end the header is written
and the file gets its name by one rename; a file of that name is always whole.

Letters: `n` texts, `h` dimensions.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zlib
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch

from paperworks.errors import InputError
from paperworks.papers.prepacking.stream import ahead, windows
from paperworks.papers.prepacking.texts import Tokens, check_texts
from paperworks.progress import Progress, silent

if TYPE_CHECKING:
    from paperworks.papers.prepacking.encode import PackedEncoder

log = logging.getLogger(__name__)
HEADER = 128  # bytes in front of the numbers; `.npy` lets a header be padded


def encode_to(
    encoder: PackedEncoder,
    path: str | os.PathLike[str],
    texts: Iterable[str],
    *,
    resume: bool = True,
    dtype: Any = np.float32,
    prompt_name: str | None = None,
    prompt: str | None = None,
    window: int = 4096,
    queued: int = 2,
    progress: Progress = silent,
) -> np.ndarray:
    """Write the vectors of `texts` to `path` (`.npy`) and open it, memory-mapped: (n, h) of `dtype` (float32 or float16).

    texts: any iterable; after an interruption give the same one again: windows on disk are not computed again, unless their texts
    have changed. resume: False starts anew. Memory stays that of `queued` + 2 windows.
    Raises InputError if `path` exists or does not end in .npy, and if what lies there was begun by another model, with other
    settings or another `window`.
    """
    path = Path(path)
    if path.suffix != ".npy":
        raise InputError(f"the file's name ends in .npy, got {path.name}")
    if path.exists():
        raise InputError(f"{path} exists already; delete or move it to embed anew")
    kind = np.dtype(dtype)
    if kind not in (np.dtype(np.float32), np.dtype(np.float16)):
        raise InputError(f"dtype is float32 or float16, got {kind}")
    prefix = encoder.resolve_prompt(prompt_name, prompt)
    plan = {
        "made by": fingerprint(encoder),
        "prompt": prefix,
        "window": window,
        "dims": encoder.dims,
        "dtype": kind.name,
    }
    part, done = path.with_name(path.name + ".part"), path.with_name(path.name + ".done")
    finished = _resumed(part, done, plan) if resume else []
    if not finished:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
    _begin(done, plan, finished)
    total = len(texts) if isinstance(texts, Sized) else None
    with part.open("r+b" if part.exists() else "w+b") as file:
        n_texts = 0
        for start, n, tokens, crc in ahead(_prepared(encoder, texts, prefix, window, finished), queued):
            if tokens is not None:
                _write(file, start, encoder.encode_tokens(tokens, first=start).astype(kind), encoder.dims)
                _append(done, [start, n, crc])
            n_texts = start + n
            progress(n_texts, total, "texts embedded")
        file.truncate(HEADER + n_texts * encoder.dims * kind.itemsize)
        file.seek(0)
        file.write(_header(n_texts, encoder.dims, kind))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    done.unlink(missing_ok=True)
    opened: np.ndarray = np.load(path, mmap_mode="r" if n_texts else None)
    return opened


def fingerprint(encoder: PackedEncoder) -> str:
    """Changes with the weights, the tokenizer and whatever else moves a vector."""
    digest = hashlib.sha256()
    for name, value in sorted(encoder.model.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        flat = value.detach().reshape(-1)[:: max(1, value.numel() // 4096)]  # a few thousand numbers of each tensor
        digest.update(flat.to(torch.float64).cpu().numpy().tobytes())
    vocabulary = json.dumps(sorted(encoder.tokenizer.get_vocab().items(), key=lambda item: item[1]))
    settings = [
        encoder.modes, encoder.normalize, encoder.max_length, encoder.include_prompt, [repr(part) for part in encoder._after],
    ]  # fmt: skip
    digest.update(vocabulary.encode())
    digest.update(json.dumps(settings).encode())
    return digest.hexdigest()[:32]


def _prepared(
    encoder: PackedEncoder, texts: Iterable[Any], prefix: str, window: int, finished: list[tuple[int, int, int]]
) -> Iterator[tuple[int, int, Tokens | None, int]]:
    """(start, number of texts, tokens or None if they are on disk already, checksum) of each window."""
    known = {(start, n): crc for start, n, crc in finished}
    for start, part in windows(texts, window):
        checked = check_texts(part, start)
        crc = checksum(checked)
        before = known.get((start, len(part)))
        if before is not None and before != crc:
            log.warning("texts %d to %d have changed since; they are embedded again", start, start + len(part) - 1)
        tokens = None if before == crc else encoder.tokenize(checked, prefix, first=start)
        yield start, len(part), tokens, crc


def checksum(texts: list[str]) -> int:
    """A checksum of texts and of where each ends."""
    crc = 0
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        crc = zlib.crc32(data, zlib.crc32(len(data).to_bytes(8, "little"), crc))
    return crc


def _resumed(part: Path, done: Path, plan: dict[str, Any]) -> list[tuple[int, int, int]]:
    """Windows on disk: (start, number of texts, checksum). A torn last line is not counted, nor a window that the file does not hold."""
    try:
        lines = done.read_text(encoding="utf-8").split("\n")
        held = part.stat().st_size
    except FileNotFoundError:
        return []
    try:
        begun = json.loads(lines[0])
    except ValueError:
        return []
    for name, value in plan.items():
        if begun.get(name) != value:
            what = "model or its settings" if name == "made by" else name
            raise InputError(
                f"{part.name} was begun with another {what}; use that again, or pass resume=False to begin anew"
            )
    row = plan["dims"] * np.dtype(plan["dtype"]).itemsize
    found: dict[int, tuple[int, int, int]] = {}
    for line in lines[1:-1]:
        try:
            start, n, crc = json.loads(line)
        except ValueError:
            continue
        if HEADER + (start + n) * row <= held:
            found[start] = (start, n, crc)
    log.info("%d windows of %s are on disk already", len(found), part.name)
    return list(found.values())


def _begin(done: Path, plan: dict[str, Any], finished: list[tuple[int, int, int]]) -> None:
    """The list as it is now, in one rename: a torn line of an earlier run must not swallow the next one."""
    beside = done.with_name(f".{done.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    for entry in (plan, *finished):
        _append(beside, entry)
    beside.replace(done)


def _append(done: Path, entry: Any) -> None:
    with done.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _write(file: BinaryIO, start: int, rows: np.ndarray, dims: int) -> None:
    file.seek(HEADER + start * dims * rows.itemsize)
    file.write(np.ascontiguousarray(rows).data)
    file.flush()
    os.fsync(file.fileno())


def _header(n_texts: int, dims: int, kind: np.dtype[Any]) -> bytes:
    """The header of `.npy` version 1.0, padded to HEADER bytes."""
    text = repr({"descr": kind.str, "fortran_order": False, "shape": (n_texts, dims)})
    lead = b"\x93NUMPY\x01\x00" + (HEADER - 10).to_bytes(2, "little")
    return lead + text.encode("latin1").ljust(HEADER - 11) + b"\n"
