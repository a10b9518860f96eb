"""Texts at the door: is every one a text, and which is not; and what tokenising gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paperworks.errors import InputError


@dataclass(frozen=True)
class Tokens:
    """Token ids of texts, one int64 array each; n_prompt: tokens at the front of each that pooling leaves out."""

    ids: list[np.ndarray]
    n_prompt: int = 0

    def __len__(self) -> int:
        return len(self.ids)


def check_texts(texts: Sequence[Any], first: int = 0) -> list[str]:
    """The texts as a list. Raises InputError that names the first that is none; numbers start at `first`.

    >>> check_texts(["a", ""])
    ['a', '']
    >>> check_texts(["a", None])
    Traceback (most recent call last):
    paperworks.errors.InputError: text 1 is missing (None); leave it out, or put "" in its place
    """
    return [text if type(text) is str else _text(text, first + i) for i, text in enumerate(texts)]


def _text(value: Any, number: int) -> str:
    if isinstance(value, str):  # numpy.str_ and the like
        return str(value)
    if (
        value is None
        or (isinstance(value, float) and math.isnan(value))
        or type(value).__name__ in ("NAType", "NaTType")
    ):
        raise InputError(f'text {number} is missing ({value}); leave it out, or put "" in its place')
    if isinstance(value, bytes):
        raise InputError(f"text {number} is bytes; decode it first, as by .decode('utf-8')")
    raise InputError(f"text {number} is a {type(value).__name__}, not a text: {str(value)[:60]}")
