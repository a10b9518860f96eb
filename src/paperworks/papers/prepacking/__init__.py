"""Run prompts or texts of mixed lengths through a transformers model without computing padding.

Prompts lie behind one another in a row, see only themselves, and are taken apart again: logits, hidden states and caches are those of
each prompt alone, up to rounding. Models are not changed or subclassed; those that cannot be packed are refused with the reason.

>>> from paperworks.papers.prepacking import generate, prefill, toy
>>> model = toy.decoder("llama")
>>> pre = prefill(model, [[5, 9, 3], [7], [2, 8]])
>>> pre.backend, tuple(pre.logits.shape)[0], pre.cache(0).get_seq_length()
('flat', 3, 3)
>>> [len(ids) for ids in generate(model, [[5, 9, 3], [7]], max_new_tokens=[2, 4], eos_token_id=None)]
[5, 5]
"""

from paperworks.errors import MissingExtra

try:
    from paperworks.papers.prepacking.attention import flat, segments
    from paperworks.papers.prepacking.batches import DatasetBatch, PackedBatches, restore_order
    from paperworks.papers.prepacking.cost import CostModel, calibrate
    from paperworks.papers.prepacking.drop_in import prepacked
    from paperworks.papers.prepacking.encode import PackedEncoder, encode
    from paperworks.papers.prepacking.errors import OutOfMemory, PackingNotSupported, PromptError
    from paperworks.papers.prepacking.generate import Generated, generate, generate_stream
    from paperworks.papers.prepacking.model import PrepackedModel, prepack
    from paperworks.papers.prepacking.packing import PackedRows, flatten, pack_rows
    from paperworks.papers.prepacking.plan import Plan, lower_bound, plan
    from paperworks.papers.prepacking.prefill import BatchedPrefill, Prefill, prefill
    from paperworks.papers.prepacking.score import Perplexity, Scores, perplexity, score, score_pairs
    from paperworks.papers.prepacking.support import Supported, check
except ModuleNotFoundError as error:
    if error.name and error.name.partition(".")[0] in ("torch", "transformers"):
        raise MissingExtra("papers.prepacking", "nn") from error
    raise

__all__ = [
    "BatchedPrefill",
    "CostModel",
    "DatasetBatch",
    "Generated",
    "OutOfMemory",
    "PackedBatches",
    "PackedEncoder",
    "PackedRows",
    "PackingNotSupported",
    "Perplexity",
    "Plan",
    "Prefill",
    "PrepackedModel",
    "PromptError",
    "Scores",
    "Supported",
    "calibrate",
    "check",
    "encode",
    "flat",
    "flatten",
    "generate",
    "generate_stream",
    "lower_bound",
    "pack_rows",
    "perplexity",
    "plan",
    "prefill",
    "prepack",
    "prepacked",
    "restore_order",
    "score",
    "score_pairs",
    "segments",
]
