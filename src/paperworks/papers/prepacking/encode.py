"""Embed texts of mixed lengths without padding: one vector a text, for encoders and for decoders used as such.

Texts are tokenised, sorted by length within a window and laid behind one another in rows of `max_tokens`. In a row every text sees
only itself (`routes.py`), so its vector is what it would be alone, to rounding. Long streams and files: `stream.py`, `vector_file.py`.

Letters: `n` texts, `h` dimensions.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
import torch

from paperworks.errors import InputError, PaperworksError
from paperworks.papers.prepacking.facts import inspect_model
from paperworks.papers.prepacking.passes import run_batch
from paperworks.papers.prepacking.pooling import Recipe, from_files, from_sentence_transformer, modes_of, pool
from paperworks.papers.prepacking.routes import FLAT_ROWS, batches, default_tokens, switch
from paperworks.papers.prepacking.support import choose
from paperworks.papers.prepacking.texts import Tokens, check_texts
from paperworks.progress import Progress, silent

log = logging.getLogger(__name__)
WINDOW = 4096  # texts that are sorted together; at a thousand about one percent of sorted, padded rows is padding


class PackedEncoder:
    """Texts to vectors with a transformers encoder, packed.

    model: a `PreTrainedModel`, a `SentenceTransformer`, or the folder or hub name of either.
    tokenizer: needed with a `PreTrainedModel`.
    pooling: 'mean', 'cls', 'last', 'max', 'mean_sqrt_len', 'weighted_mean', or several, put behind one another. By default what the
        model's files say, else 'mean'.
    normalize: scale vectors to length 1. By default what the model's files say, else no.
    max_length: tokens (special ones included) at which a text is cut; by default the model's own limit.
    max_tokens: tokens of a packed row, 2,048 on a CPU and 16,384 elsewhere by default; a longer text has a row of its own.
    prompts, default_prompt_name: texts to put in front, by name ({'query': 'Find: '}).
    allow_empty: give zeros for a text without any token, instead of an error.
    backend: 'auto', or a route of `routes.py`; 'padded' works for models that cannot be packed.
    device: where to run; by default where the model is.

    Raises InputError for what does not fit together, PackingNotSupported (at the first text) for a model that gives other results in
    a row than alone.

    >>> from paperworks.papers.prepacking import toy
    >>> packed = PackedEncoder(toy.encoder(), toy.tokenizer(), normalize=True)
    >>> packed.encode(["one pass", "a mask keeps prompts apart"]).shape
    (2, 32)
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        *,
        pooling: str | Sequence[str] | None = None,
        normalize: bool | None = None,
        max_length: int | None = None,
        max_tokens: int | None = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        allow_empty: bool = False,
        backend: str = "auto",
        device: str | torch.device | None = None,
    ) -> None:
        encoder, tokenizer, recipe = _opened(model, tokenizer)
        if device is not None:
            encoder.to(device)
        encoder.eval()
        self.model = encoder
        self.tokenizer = tokenizer
        self.facts = inspect_model(encoder)
        self.modes = modes_of(pooling) if pooling is not None else recipe.modes
        self.normalize = recipe.normalize if normalize is None else normalize
        self.include_prompt = recipe.include_prompt
        self.prompts = dict(recipe.prompts if prompts is None else prompts)
        self.default_prompt_name = recipe.default_prompt_name if default_prompt_name is None else default_prompt_name
        self.allow_empty = allow_empty
        self.max_length = self._limit(max_length if max_length is not None else recipe.max_length)
        self.max_tokens = default_tokens(self.facts) if max_tokens is None else int(max_tokens)
        if self.max_tokens < 1:
            raise InputError(f"max_tokens is the size of a packed row in tokens, at least 1; got {max_tokens}")
        if default_prompt_name is not None and default_prompt_name not in self.prompts:
            raise InputError(f"no prompt {default_prompt_name!r}; there are {', '.join(self.prompts) or 'none'}")
        self._after = recipe.after
        self._lower = recipe.lower
        self._asked = backend
        self._backend: Any = None

    @property
    def backend(self) -> str:
        """The route that is taken; found by a self-test of four short texts at the first use."""
        if self._backend is None:
            self._backend = choose(self.facts, self._asked)
            log.debug("%s is packed by backend %s", type(self.facts.model).__name__, self._backend)
        found: str = self._backend
        return found

    @property
    def dims(self) -> int:
        """Numbers of a vector."""
        if self._after:
            with torch.inference_mode():
                return int(self._finished(torch.zeros(1, self._pooled, device=self.facts.device)).shape[1])
        return self._pooled

    @property
    def fingerprint(self) -> str:
        """Changes with the weights, the tokenizer and whatever else moves a vector; equal ones mean comparable vectors."""
        from paperworks.papers.prepacking.vector_file import fingerprint

        return fingerprint(self)

    @property
    def _pooled(self) -> int:
        return len(self.modes) * int(self.facts.model.config.get_text_config().hidden_size)

    def encode(
        self,
        texts: str | Sequence[str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        normalize_embeddings: bool = False,
        convert_to_tensor: bool = False,
        window: int = WINDOW,
        progress: Progress = silent,
    ) -> Any:
        """Vectors of texts, in their order: float32 array (n, h), or (h,) for a single text.

        prompt_name, prompt: put in front of every text. normalize_embeddings: scale to length 1 even if the model does not say so.
        convert_to_tensor: a CPU tensor instead. window: texts that are sorted and packed together.
        Raises InputError that names the text for anything but a text, and for one without a token (see `allow_empty`);
        PaperworksError if the model gives numbers that are not finite.
        """
        one = isinstance(texts, str)
        wanted: Any = [texts] if isinstance(texts, str) else texts
        if not (hasattr(wanted, "__len__") and hasattr(wanted, "__getitem__")) or isinstance(wanted, bytes | Mapping):
            raise InputError(
                f"texts is a text or a list of texts, got {type(wanted).__name__}; for a stream use encode_iter"
            )
        out = np.empty((len(wanted), self.dims), dtype=np.float32)
        at = 0
        for block in self.encode_blocks(wanted, prompt_name=prompt_name, prompt=prompt, window=window):
            out[at : at + len(block)] = block
            at += len(block)
            progress(at, len(wanted), "texts embedded")
        if normalize_embeddings and not self.normalize:
            out = _unit(out)
        result: Any = torch.from_numpy(out) if convert_to_tensor else out
        return result[0] if one else result

    def encode_iter(
        self,
        texts: Iterable[str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        window: int = WINDOW,
        queued: int = 2,
    ) -> Iterator[np.ndarray]:
        """Vectors (h,) one after another, in the texts' order, from any stream: memory does not grow with it.

        A thread reads and tokenises ahead: at most `queued` + 2 windows of `window` texts are held. Leaving the loop early stops it.
        """
        for block in self.encode_blocks(texts, prompt_name=prompt_name, prompt=prompt, window=window, queued=queued):
            yield from block

    def encode_blocks(
        self,
        texts: Iterable[str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        window: int = WINDOW,
        queued: int = 2,
    ) -> Iterator[np.ndarray]:
        """As `encode_iter`, a window at a time: float32 (at most `window`, h)."""
        from paperworks.papers.prepacking.stream import ahead, windows

        if window < 1 or queued < 1:
            raise InputError(f"window and queued are at least 1, got {window} and {queued}")
        prefix = self.resolve_prompt(prompt_name, prompt)
        if isinstance(texts, Sequence) and len(texts) <= window:  # nothing to read ahead of
            if texts:
                yield self.encode_tokens(self.tokenize(texts, prefix))
            return
        work = ((start, self.tokenize(part, prefix, first=start)) for start, part in windows(texts, window))
        for start, tokens in ahead(work, queued):
            yield self.encode_tokens(tokens, first=start)

    def encode_to(self, path: str | PathLike[str], texts: Iterable[str], **settings: Any) -> np.ndarray:
        """Write vectors to a `.npy` file as they come, and go on after an interruption. See `vector_file.encode_to`."""
        from paperworks.papers.prepacking.vector_file import encode_to

        return encode_to(self, path, texts, **settings)

    # -- the three steps ---------------------------------------------------------------------------------------------

    def resolve_prompt(self, prompt_name: str | None = None, prompt: str | None = None) -> str:
        """The text to put in front: `prompt`, or the one of that name, or the default one, or none."""
        if prompt is not None:
            return prompt
        name = prompt_name if prompt_name is not None else self.default_prompt_name
        if name is None:
            return ""
        if name not in self.prompts:
            raise InputError(f"no prompt {name!r}; there are {', '.join(self.prompts) or 'none'}")
        return self.prompts[name]

    def tokenize(self, texts: Sequence[Any], prefix: str = "", *, first: int = 0) -> Tokens:
        """Token ids of texts, cut at `max_length`. `first`: the number of the first text, for errors."""
        checked = check_texts(texts, first)
        if self._lower:
            checked = [text.lower() for text in checked]
        made = self.tokenizer(
            [prefix + text for text in checked] if prefix else checked,
            add_special_tokens=True,
            padding=False,
            truncation=True,
            max_length=self.max_length,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]
        skipped = 0 if self.include_prompt or not prefix else self._prompt_tokens(prefix)
        return Tokens([np.asarray(ids, dtype=np.int64) for ids in made], skipped)

    def _prompt_tokens(self, prefix: str) -> int:
        ids = list(self.tokenizer(prefix, add_special_tokens=True)["input_ids"])
        closed = bool(ids) and ids[-1] in (self.tokenizer.sep_token_id, self.tokenizer.eos_token_id)
        return len(ids) - closed

    def encode_tokens(self, tokens: Tokens, *, first: int = 0) -> np.ndarray:
        """Vectors of token ids, in their order: float32 (n, h)."""
        if self.facts.model.training:
            raise InputError(
                f"{type(self.facts.model).__name__} was put into training mode, where dropout makes vectors random; call model.eval()"
            )
        lengths = np.array([len(ids) for ids in tokens.ids], dtype=np.int64)
        empty = np.flatnonzero(lengths == 0)
        if len(empty) and not self.allow_empty:
            raise InputError(
                f"text {first + int(empty[0])} has no token; leave it out, or pass allow_empty=True to get zeros for it"
            )
        pooled = torch.zeros(len(lengths), self._pooled, device=self.facts.device)
        order = np.argsort(-lengths, kind="stable")
        order = order[lengths[order] > 0]
        with torch.inference_mode():
            if len(order):
                self._check_ids(tokens, first)
                with switch(self.facts, self.backend):  # type: ignore[arg-type]
                    for places in self._groups(order, lengths):
                        self._run(tokens, places, pooled)
            out = self._finished(pooled).float().cpu().numpy()
        wrong = np.flatnonzero(~np.isfinite(out).all(axis=1))
        if len(wrong):
            raise PaperworksError(
                f"the model gives a vector that is not finite for text {first + int(wrong[0])} ({len(wrong)} in all); "
                f"weights in {self.facts.dtype} may overflow: load the model in float32 or bfloat16"
            )
        if len(empty):
            out[empty] = 0
        return out

    def _groups(self, order: np.ndarray, lengths: np.ndarray) -> Iterator[np.ndarray]:
        """Neighbours by length that fill a row; other routes than flat ones lay out many at once by themselves."""
        room = self.max_tokens if self.backend in FLAT_ROWS else 16 * self.max_tokens
        start = total = 0
        for at, place in enumerate(order):
            if at > start and total + lengths[place] > room:
                yield order[start:at]
                start, total = at, 0
            total += int(lengths[place])
        yield order[start:]

    def _run(self, tokens: Tokens, places: np.ndarray, pooled: torch.Tensor) -> None:
        prompts = [tokens.ids[place] for place in places]
        for batch in batches(prompts, self.facts, self.backend, self.max_tokens):  # type: ignore[arg-type]
            states = run_batch(self.facts, batch, "hidden").hidden or []
            rows = torch.stack([pool(part, self.modes, tokens.n_prompt) for part in states])
            pooled[torch.from_numpy(places[batch.members]).to(pooled.device)] = rows.to(pooled)

    def _finished(self, pooled: torch.Tensor) -> torch.Tensor:
        for module in self._after:
            module.eval()
            kind = next((parameter.dtype for parameter in module.parameters()), pooled.dtype)
            pooled = module({"sentence_embedding": pooled.to(kind)})["sentence_embedding"].float()
        return torch.nn.functional.normalize(pooled, dim=1) if self.normalize else pooled

    # -- limits ------------------------------------------------------------------------------------------------------

    def _limit(self, asked: int | None) -> int | None:
        """Tokens at which texts are cut. Raises InputError when more are asked for than the model has positions."""
        own = getattr(self.tokenizer, "model_max_length", None)
        limits = [limit for limit in (self.facts.max_length, own) if isinstance(limit, int) and 0 < limit < 10**9]
        if asked is None:
            return min(limits, default=None)
        if asked < 1:
            raise InputError(f"max_length is a number of tokens, at least 1; got {asked}")
        if self.facts.max_length is not None and asked > self.facts.max_length:
            raise InputError(f"max_length {asked} is more than the model has positions for, {self.facts.max_length}")
        return int(asked)

    def _check_ids(self, tokens: Tokens, first: int) -> None:
        highest = max(int(ids.max()) for ids in tokens.ids if len(ids))
        if highest >= self.facts.n_vocab:
            bad = next(i for i, ids in enumerate(tokens.ids) if len(ids) and ids.max() >= self.facts.n_vocab)
            raise InputError(
                f"text {first + bad} holds token id {highest}, outside the model's vocabulary of {self.facts.n_vocab}; "
                "is it the right tokenizer?"
            )


def encode(model: Any, tokenizer: Any, texts: Sequence[str], **settings: Any) -> np.ndarray:
    """Vectors of texts, float32 (n, h), in one call. settings: those of `PackedEncoder`. See `PackedEncoder.encode`."""
    found: np.ndarray = PackedEncoder(model, tokenizer, **settings).encode(texts)
    return found


def _opened(model: Any, tokenizer: Any) -> tuple[Any, Any, Recipe]:
    if isinstance(model, str | PathLike):
        from transformers import AutoModel, AutoTokenizer

        folder, recipe = from_files(model)  # type: ignore[arg-type]
        where = {"subfolder": folder} if folder else {}
        try:
            encoder = AutoModel.from_pretrained(model, **where)
            tokenizer = tokenizer if tokenizer is not None else AutoTokenizer.from_pretrained(model, **where)
        except (OSError, ValueError) as error:
            raise InputError(f"no model can be loaded from {str(model)!r}: {error}") from error
        return encoder, tokenizer, recipe or Recipe()
    if any(kind.__name__ == "SentenceTransformer" for kind in type(model).__mro__):
        encoder, own, recipe = from_sentence_transformer(model)
        return encoder, tokenizer if tokenizer is not None else own, recipe
    if tokenizer is None:
        raise InputError(f"a {type(model).__name__} needs its tokenizer too: PackedEncoder(model, tokenizer)")
    return model, tokenizer, Recipe()


def _unit(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: np.ndarray = rows / np.where(lengths > 0, lengths, 1)
    return scaled
