"""The query processor: one partition, a few queries, their bitmaps -> the nearest rows that pass. A pure function of its message."""

from __future__ import annotations

import numpy as np

from paperworks.papers.squash.serverless.engine import PartitionReader
from paperworks.papers.squash.serverless.errors import PayloadError
from paperworks.papers.squash.serverless.payload import Message


def answer_search(message: Message, reader: PartitionReader, n_rows: int) -> Message:
    """Answer a "search" message (`allocator.PartitionRequest.message`) from the partition that `reader` holds, of `n_rows` rows.

    Raises PayloadError for a message whose parts do not fit together or this partition.
    """
    fields, arrays = message.fields, message.arrays
    try:
        queries, packed, bitmap_of = arrays["queries"], arrays["bitmaps"], arrays["bitmap_of"]
        k, search, rows = fields["k"], fields["search"], fields["rows"]
    except KeyError as error:
        raise PayloadError(f"the request lacks {error}") from error
    if type(k) is not int or k < 1 or not isinstance(search, dict) or rows != n_rows:
        raise PayloadError(f"the request asks for k={k!r} of {rows!r} rows, this partition has {n_rows}")
    if queries.ndim != 2 or queries.dtype != np.float32 or not np.isfinite(queries).all():
        raise PayloadError("the request's queries must be finite float32 numbers, one row a query")
    if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] != (n_rows + 7) // 8:
        raise PayloadError(f"a bitmap of {n_rows} rows has {(n_rows + 7) // 8} bytes, got shape {packed.shape}")
    if bitmap_of.dtype != np.int32 or bitmap_of.shape != (queries.shape[0],):
        raise PayloadError("the request must say of each query which bitmap it has")
    if ((bitmap_of < -1) | (bitmap_of >= packed.shape[0])).any():
        raise PayloadError("the request names a bitmap that it does not hold")
    bitmaps = np.unpackbits(packed, axis=1, count=n_rows).view(np.bool_)
    found = reader.search(queries, bitmaps, bitmap_of, k, search)
    return Message(
        "answer",
        {
            "request": fields.get("request"),
            "deployment": fields.get("deployment"),
            "partition": fields.get("partition"),
            "stats": {name: float(value) for name, value in found.stats.items()},
        },
        {
            "positions": np.ascontiguousarray(found.positions, np.int64),
            "ids": np.ascontiguousarray(found.ids, np.int64),
            "distances": np.ascontiguousarray(found.distances, np.float32),
        },
    )
