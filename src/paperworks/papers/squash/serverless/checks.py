"""Is an answer one to the question? A function that answered for another request, or answered nonsense, is asked again."""

from __future__ import annotations

import numpy as np

from paperworks.papers.squash.serverless.allocator import PartitionRequest
from paperworks.papers.squash.serverless.errors import WorkerFailed, WrongAnswer
from paperworks.papers.squash.serverless.payload import Message, decode


def read_reply(data: bytes, request_id: str) -> Message:
    """The reply in `data`, known to belong to the request.

    Raises PayloadError for bytes that are no message, WorkerFailed for a function that reports an error, WrongAnswer for a reply to
    something else.
    """
    message = decode(data)
    if message.fields.get("request") != request_id:
        raise WrongAnswer("the reply belongs to another request")
    if message.kind == "failed":
        raise WorkerFailed(f"{message.fields.get('error', 'Error')}: {message.fields.get('text', '')}")
    if message.kind != "answer":
        raise WrongAnswer(f"the reply is a {message.kind!r} message")
    return message


def check_partition_answer(message: Message, request: PartitionRequest, deployment: str) -> None:
    """Raise WrongAnswer unless the answer can be right.

    It must name this partition and deployment; have exactly min(k, candidates) rows for each query, which the request fixed before
    any function started; distances ascending, finite and not negative; rows distinct, inside the partition, and allowed by the
    query's filter.
    """
    fields = message.fields
    if fields.get("partition") != request.partition or fields.get("deployment") != deployment:
        raise WrongAnswer(
            f"the answer is about partition {fields.get('partition')} of deployment {fields.get('deployment')}"
        )
    shape = (request.query_ids.size, request.k)
    for name, kind in (("distances", "<f4"), ("positions", "<i8"), ("ids", "<i8")):
        array = message.arrays.get(name)
        if array is None or array.shape != shape or array.dtype != np.dtype(kind):
            raise WrongAnswer(f"{name} should have shape {shape} and dtype {np.dtype(kind)}")
    distances, positions, ids = (message.arrays[name] for name in ("distances", "positions", "ids"))
    found = positions >= 0
    if not np.array_equal(found, np.arange(request.k) < request.expected[:, None]):
        raise WrongAnswer("the number of rows differs from the number of candidates that the request promised")
    if (positions >= request.n_rows).any() or not np.array_equal(found, ids >= 0):
        raise WrongAnswer("rows lie outside the partition or have no id")
    if not (np.isfinite(distances) == found).all() or (distances < 0).any() or np.isnan(distances).any():
        raise WrongAnswer("distances are not finite where there are rows, or are negative")
    with np.errstate(invalid="ignore"):  # inf - inf beyond the last row
        if (np.diff(distances, axis=1) < 0).any():
            raise WrongAnswer("distances do not ascend")
    ordered = np.sort(positions, axis=1)
    if ((np.diff(ordered, axis=1) == 0) & (ordered[:, 1:] >= 0)).any():
        raise WrongAnswer("a row comes twice")
    filtered = request.bitmap_of >= 0
    allowed = request.bitmaps[request.bitmap_of[filtered, None], np.maximum(positions[filtered], 0)]
    if (found[filtered] & ~allowed).any():
        raise WrongAnswer("a row does not pass the filter")
