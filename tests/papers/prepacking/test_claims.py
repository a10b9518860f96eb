"""What the claims are measured with: clocks in turn, bytes alive, peers, prompt sets; and that a wrong method is found out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers")

import torch

from paperworks.claims import Run
from paperworks.claims.data import Data
from paperworks.errors import InputError
from paperworks.papers.prepacking import baselines, prompt_sets, reproduce, toy
from paperworks.papers.prepacking.measure import PeakBytes, in_turn, median_ratio, peak_bytes
from paperworks.papers.prepacking.prefill import Prefill

PROMPTS = toy.prompts(np.random.default_rng(0), [9, 1, 30, 4, 4])


class NoCheckpoint:
    folder = Path()

    def get(self, key: str) -> None:
        return None

    def put(self, key: str, value: object) -> None:
        raise NotImplementedError


def smoke(claim: Any) -> dict[str, Any]:
    return dict(claim(Run(scale="smoke", seed=0, data=Data(), checkpoint=NoCheckpoint())).values)


def test_exactness_is_measured_and_a_leak_between_prompts_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    values = smoke(reproduce.exactness)
    assert values["largest_logit_difference"] <= 1e-4
    assert values["same_greedy_percent"] == 100

    class Leaky(reproduce.Setting):
        def packed(self, prompts: Any, backend: Any = "mask", **settings: Any) -> Prefill:
            found = super().packed(prompts, backend, **settings)
            if backend == "flat":
                found.logits[0] += 0.01  # type: ignore[index,operator]
            return found

    monkeypatch.setattr(reproduce, "Setting", Leaky)
    assert smoke(reproduce.exactness)["largest_logit_difference"] == pytest.approx(0.01, rel=0.01)


def test_a_continuation_that_differs_without_a_tie_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = reproduce.generate

    def wrong(model: Any, prompts: Any, **settings: Any) -> list[torch.Tensor]:
        found = plain(model, prompts, **settings)
        found[2][-1] = (found[2][-1] + 1) % toy.VOCABULARY
        return found

    monkeypatch.setattr(reproduce, "generate", wrong)
    values = smoke(reproduce.exactness)
    assert values["differences_without_tie"] == 1
    assert values["same_greedy_percent"] == pytest.approx(100 * 11 / 12)


def test_the_peers_give_the_same_logits_in_the_same_order() -> None:
    model = toy.decoder("llama")
    alone = baselines.one_by_one(model, PROMPTS)
    for found in (baselines.padded(model, PROMPTS), baselines.sorted_batches(model, PROMPTS, 2)):
        np.testing.assert_allclose(found, alone, atol=2e-5)
    kept: list[Any] = []
    assert baselines.padded(model, PROMPTS, all_logits=True, keep=kept).shape == (5, 30, toy.VOCABULARY)
    assert kept[0].past_key_values is not None
    with pytest.raises(InputError, match="at least one prompt"):
        baselines.padded(model, [])


def test_bytes_that_live_at_once_by_hand() -> None:
    kept = torch.zeros(1000)

    def work() -> torch.Tensor:
        first = kept + 1  # 4,000 bytes
        second = first.view(10, 100)  # the same bytes
        del first
        third = second.repeat(2, 1)  # 8,000 more: 12,000 at the peak
        del second
        return third[0] + 1  # 8,000 and 400

    assert peak_bytes(work) == 12_000
    with PeakBytes() as counted:
        kept.add_(1)
        result = kept + 1
        assert counted.live == 4000
        del result
    assert counted.live == 0


def test_works_take_turns_and_ratios_are_of_rounds() -> None:
    order: list[str] = []
    times = in_turn({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3)
    assert order == ["a", "b"] * 3
    assert times["a"].shape == (3,)
    assert median_ratio({"x": np.array([2.0, 6, 30]), "y": np.array([1.0, 2, 3])}, "x", "y") == 3


def test_the_largest_that_fits_is_found() -> None:
    def work(prompts: Any) -> torch.Tensor:
        return torch.zeros(len(prompts), 250)  # 1,000 bytes a prompt

    for budget, expected in ((7999, 7), (8000, 8), (500, 1), (10**9, 40)):
        assert reproduce._largest(budget, work, range(40)) == expected


def test_r_squared_by_hand() -> None:
    assert reproduce._r2([1, 2, 3], [2, 4, 6]) == pytest.approx(1)
    assert reproduce._r2([1, 2, 3], [1, 3, 2]) == pytest.approx(0.25)
    assert reproduce._r2([1, 1], [1, 2]) == 0


def test_local_sets_are_read_and_cut(shared_data: Path) -> None:
    tokenizer = toy.tokenizer("plain")

    def path(name: str) -> Path:
        return shared_data / name

    for name, (_, limit) in prompt_sets.LOCAL.items():
        drawn = prompt_sets.prompts(name, 12, np.random.default_rng(0), tokenizer, path)
        assert len(drawn) == 12
        assert all(0 < len(prompt) <= limit for prompt in drawn), name
        again = prompt_sets.prompts(name, 12, np.random.default_rng(0), tokenizer, path)
        assert all(np.array_equal(a, b) for a, b in zip(drawn, again, strict=True))
    assert all("###Output" not in text for text in prompt_sets.texts("apibench", path))
    assert not any(text.startswith("=") for text in prompt_sets.texts("wikitext-256", path))
    with pytest.raises(InputError, match="no set 'other'"):
        prompt_sets.prompts("other", 1, np.random.default_rng(0), tokenizer, path)
    with pytest.raises(InputError, match="texts, 99999 are needed"):
        prompt_sets.prompts("gsm8k", 99_999, np.random.default_rng(0), tokenizer, path)
