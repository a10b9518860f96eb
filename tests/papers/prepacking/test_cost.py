"""The cost model finds the costs that a clock tells it, and decides by them."""

from __future__ import annotations

import pytest

from paperworks.errors import InputError
from paperworks.papers.prepacking import cost
from paperworks.papers.prepacking.cost import CostModel, calibrate
from paperworks.papers.prepacking.plan import plan

from .models import decoder, encoder

TRUE = {"call": 5e-3, "token": 2e-4, "pair": 3e-8, "segment": 1e-5}


def fake(monkeypatch, slow_above=None):
    """Passes that take what TRUE says, on a clock that only they move."""
    now = [0.0]

    def measure(facts, lengths, rng, clock):
        tokens = sum(lengths)
        taken = TRUE["call"] + tokens * TRUE["token"] * (1.5 if slow_above and tokens > slow_above else 1)
        taken += sum(n * (n + 1) / 2 for n in lengths) * TRUE["pair"] + len(set(lengths)) * TRUE["segment"]
        now[0] += taken
        return taken

    monkeypatch.setattr(cost, "_measure", measure)
    return lambda: now[0]


def test_the_costs_of_a_made_up_machine_are_found(monkeypatch):
    found = calibrate(decoder(), 30.0, clock=fake(monkeypatch))
    assert found.call == pytest.approx(TRUE["call"], rel=0.02)
    assert found.token == pytest.approx(TRUE["token"], rel=0.02)
    lengths = [16, 40, 100, 100]
    expected = (
        TRUE["call"] + 256 * TRUE["token"] + sum(n * (n + 1) / 2 for n in lengths) * TRUE["pair"] + 3 * TRUE["segment"]
    )
    assert found.flat([lengths]) == pytest.approx(expected, rel=0.02)


def test_rows_stay_below_the_size_from_which_the_machine_is_slow(monkeypatch):
    found = calibrate(decoder(), 60.0, clock=fake(monkeypatch, slow_above=1024))
    assert found.best_tokens([50] * 200) == 1024
    assert calibrate(decoder(), 60.0, clock=fake(monkeypatch)).best_tokens([50] * 200) >= 4096


def test_the_budget_is_kept(monkeypatch):
    clock = fake(monkeypatch)
    calibrate(decoder(), 0.5, clock=clock)
    assert clock() < 0.8


def test_a_real_model_is_measured():
    found = calibrate(decoder(), 0.3)
    assert found.token > 0
    assert found.flat([[5, 6]]) > 0
    assert calibrate(encoder(), 0.2).best_tokens([5, 9]) >= 64


def test_packing_is_preferred_for_mixed_lengths_and_padding_where_it_costs_nothing():
    model = CostModel(**TRUE)
    assert model.best_backend([16, 512, 40, 100, 300], 2048) == "flat"
    dear = CostModel(**TRUE | {"segment": 1.0})
    assert dear.best_backend([10, 10, 9, 11], 2048) == "padded"
    times = model.compare(plan([16, 512, 40, 100, 300]))
    assert times["one padded batch"] > times["this plan"] > times["flat rows of 1024 tokens"]
    assert "ms predicted" in plan([16, 512]).explain(model)
    assert model.compare(plan([])) == {}


def test_it_is_saved_and_loaded(tmp_path):
    model = CostModel(**TRUE, token_by_size=((64, 1e-4), (128, 2e-4)))
    model.save(tmp_path / "cost.json")
    assert CostModel.load(tmp_path / "cost.json") == model
    (tmp_path / "bad.json").write_text("[]")
    with pytest.raises(InputError, match="not a saved cost model"):
        CostModel.load(tmp_path / "bad.json")
    with pytest.raises(InputError, match="negative"):
        CostModel(-1, 1, 1, 1)
    with pytest.raises(InputError, match="budget_s"):
        calibrate(decoder(), 0)
