"""The harness's model class: its answers against the model one by one, and against the harness's own class for transformers models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

pytest.importorskip("transformers")

import torch

from paperworks.errors import InputError
from paperworks.papers.prepacking import toy
from paperworks.papers.prepacking.lm_eval import PackedLM


@dataclass
class Request:
    """The shape of the harness's Instance that a model sees."""

    args: tuple[Any, ...]


PAIRS = [
    ("one pass while pads cost", " time"),
    ("one pass while pads cost", " the cache"),
    ("", "a mask keeps"),
    ("each ", "prompts apart"),
    ("Zebra", " long short"),
]
CONTEXTS = ["one pass while", "a mask keeps prompts apart", "the"]


@pytest.fixture(scope="module")
def packed() -> PackedLM:
    return PackedLM(toy.decoder("llama", vocab_size=127), toy.tokenizer("plain"))


def test_log_likelihoods_are_those_of_each_text_alone(packed: PackedLM) -> None:
    answers = packed.loglikelihood([Request(pair) for pair in PAIRS])
    for (context, continuation), (logprob, greedy) in zip(PAIRS, answers, strict=True):
        before, after = packed._pair(context, continuation)
        with torch.inference_mode():
            logits = packed.model(torch.tensor([before + after])).logits[0, len(before) - 1 : -1]
        expected = torch.log_softmax(logits, -1)[torch.arange(len(after)), torch.tensor(after)].sum()
        assert logprob == pytest.approx(float(expected), abs=1e-4)
        assert greedy == (logits.argmax(-1).tolist() == after)


def test_rolling_log_likelihood_counts_every_token(packed: PackedLM) -> None:
    (found,) = packed.loglikelihood_rolling([Request(("one pass while",))])
    ((whole, _),) = packed.loglikelihood([Request(("", "one pass while"))])
    assert found == pytest.approx(whole, abs=1e-4)


def test_generation_stops_before_the_stop_text_and_not_at_one_in_the_prompt(packed: PackedLM) -> None:
    free = packed.generate_until([Request((text, {"until": [], "max_gen_toks": 12})) for text in CONTEXTS])
    for text, answer in zip(CONTEXTS, free, strict=True):
        ids = torch.tensor([packed.tok_encode(text)])
        with torch.inference_mode():
            whole = packed.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
        assert answer == packed.tokenizer.decode(whole[0, ids.shape[1] :], skip_special_tokens=True)
    stops = [answer.split()[3] for answer in free]
    found = packed.generate_until(
        [
            Request((text, {"until": [stop, "no such"], "max_gen_toks": 12}))
            for text, stop in zip(CONTEXTS, stops, strict=True)
        ]
    )
    for answer, whole, stop in zip(found, free, stops, strict=True):
        assert answer == whole[: whole.index(stop)]
    assert packed.generate_until([Request(("one pass while", {"until": "while", "max_gen_toks": 3}))])[0]


def test_what_does_not_fit_is_refused(packed: PackedLM) -> None:
    with pytest.raises(InputError, match="PackedLM knows no argument parallelise"):
        PackedLM(packed.model, packed.tokenizer, parallelise=True)
    with pytest.raises(InputError, match="needs its tokenizer too"):
        PackedLM(packed.model)
    with pytest.raises(InputError, match="leave no room for a prompt"):
        packed.generate_until([Request(("one", {"max_gen_toks": 512}))])


def test_the_harness_runs_a_task_with_it_and_agrees_with_its_own_class(packed: PackedLM, tmp_path: Any) -> None:
    """A task of multiple choice, one of perplexity and one of generation, with both classes."""
    pytest.importorskip("lm_eval")
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM

    docs = [{"q": "one pass while", "a": [" time", " the cache", " a mask"], "y": i % 3} for i in range(6)]
    docs += [{"q": "each long batch", "a": [" is", " cut", " out again"], "y": 1}]

    def task(name: str, **config: Any) -> Any:
        import datasets

        def load(**_: Any) -> Any:
            return {"test": datasets.Dataset.from_list(docs)}

        return ConfigurableTask(
            config={"task": name, "custom_dataset": load, "test_split": "test", "doc_to_text": "{{q}}", **config}
        )

    tasks = (
        task("choice", output_type="multiple_choice", doc_to_choice="{{a}}", doc_to_target="{{y}}", target_delimiter=""),
        task("text", output_type="loglikelihood_rolling", doc_to_target="{{q}} {{a[0]}}", metric_list=[{"metric": "word_perplexity"}]),
        task(
            "free", output_type="generate_until", doc_to_target="{{a[0]}}", metric_list=[{"metric": "exact_match"}],
            generation_kwargs={"until": [" mask"], "max_gen_toks": 6, "do_sample": False},
        ),
    )  # fmt: skip
    samples = []
    for model in (packed, HFLM(packed.model, tokenizer=packed.tokenizer, batch_size=2, device="cpu", max_length=512)):
        found = evaluate(model, {item.config.task: item for item in tasks}, bootstrap_iters=0, log_samples=True)
        samples.append({name: [row["resps"] for row in rows] for name, rows in found["samples"].items()})
    ours, theirs = samples
    assert ours["free"] == theirs["free"]
    for name in ("choice", "text"):
        for mine, other in zip(ours[name], theirs[name], strict=True):
            numbers = [_number(answer) for answer in mine], [_number(answer) for answer in other]
            assert numbers[0] == pytest.approx(numbers[1], abs=1e-3)


def _number(answer: Any) -> float:
    while isinstance(answer, list | tuple):
        answer = answer[0]
    return float(answer)
