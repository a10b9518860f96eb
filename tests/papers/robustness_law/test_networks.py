"""Networks: gradients that leave no trace, language models, the penalty, the monitor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from paperworks.errors import InputError
from paperworks.papers.robustness_law import RandomFeatures, SensitivityMonitor, sensitivity, sensitivity_penalty, toy
from paperworks.papers.robustness_law.networks import input_gradient

torch = pytest.importorskip("torch")
nn = torch.nn


def small_net(n_outputs: int = 3) -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, n_outputs))


def conv_net() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 2)
    )


def test_sensitivity_of_a_plane_by_hand() -> None:
    plane = nn.Linear(2, 1)
    plane.weight.data = torch.tensor([[3.0, 4.0]])
    z = np.array([[0.0, 2.0], [1.0, 0.0]], dtype=np.float32)
    np.testing.assert_allclose(sensitivity(plane, z), [10, 5], rtol=1e-6)
    np.testing.assert_allclose(sensitivity(plane, z, scale="sqrt_d"), [5 * np.sqrt(2)] * 2, rtol=1e-6)


@pytest.mark.parametrize("target", [None, "margin", "logit", 1, -1, lambda out: out.sum(dim=1)])
def test_gradient_is_the_difference_quotient(target: Any) -> None:
    net = small_net().double()
    Z = np.random.default_rng(0).standard_normal((3, 3, 4))
    _, values, grads = input_gradient(net, Z, target)
    direction = np.random.default_rng(1).standard_normal(Z.shape)
    step = 1e-6
    moved = [input_gradient(net, Z + s * step * direction, target)[1] for s in (1, -1)]
    np.testing.assert_allclose((grads * direction).sum((1, 2)), (moved[0] - moved[1]) / (2 * step), rtol=1e-5)
    assert values.shape == (3,)


def test_nothing_of_the_model_changes() -> None:
    net = conv_net()
    net.train()
    net[1].eval()
    net[5].weight.grad = torch.ones_like(net[5].weight)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    Z = np.random.default_rng(0).standard_normal((300, 1, 6, 6)).astype(np.float32)
    with torch.no_grad():
        under_no_grad = sensitivity(net, Z)
    with torch.inference_mode():
        under_inference = sensitivity(net, torch.as_tensor(Z))
    np.testing.assert_allclose(under_no_grad, under_inference, rtol=1e-5)
    np.testing.assert_allclose(under_no_grad, sensitivity(net, Z, batch_size=7), rtol=1e-4)
    assert modes == [module.training for module in net.modules()]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [p.grad is None for p in net.parameters()] == [True] * 4 + [False, True]
    assert torch.equal(net[5].weight.grad, torch.ones_like(net[5].weight))


def test_modes_come_back_after_an_error() -> None:
    net = small_net().train()
    with pytest.raises(InputError, match="outside of 3 outputs"):
        sensitivity(net, np.ones((2, 12), np.float32), 3)
    assert all(module.training for module in net.modules())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_other_precisions_agree_roughly(dtype: str) -> None:
    Z = np.random.default_rng(0).standard_normal((4, 12)).astype(np.float32)
    expected = sensitivity(small_net(), Z, 0)
    np.testing.assert_allclose(sensitivity(small_net().to(getattr(torch, dtype)), Z, 0), expected, rtol=0.05)


def tiny_bert() -> Any:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=50, num_labels=3
    )
    return transformers.BertForSequenceClassification(config)


def tiny_gpt() -> Any:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_layer=1, n_head=2, n_embd=8, vocab_size=50, n_positions=20, bos_token_id=0, eos_token_id=0
    )
    return transformers.GPT2LMHeadModel(config)


@pytest.mark.parametrize("make", [tiny_bert, tiny_gpt])
def test_language_models_are_asked_in_their_embeddings(make: Any) -> None:
    model = make().double()
    ids = np.random.default_rng(0).integers(1, 50, (3, 6))
    mask = np.ones_like(ids)
    mask[1, 4:] = 0
    embeddings, _, grads = input_gradient(model, {"input_ids": ids, "attention_mask": mask}, 1)
    assert embeddings.shape == (3, 6, 8)
    assert (grads[1, 4:] == 0).all()
    assert (embeddings[1, 4:] == 0).all()
    # what stands where the mask is 0 does not matter, for gradients and for which token is the last
    changed = ids.copy()
    changed[1, 4:] = 7
    again = input_gradient(model, {"input_ids": changed, "attention_mask": mask}, 1)[2]
    np.testing.assert_allclose(grads, again, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(
        sensitivity(model, ids[[0]], 1), sensitivity(model, {"input_ids": ids[[0]], "attention_mask": mask[[0]]}, 1)
    )


@pytest.mark.parametrize(
    ("Z", "target", "message"),
    [
        (np.ones((2, 12), int), None, "no get_input_embeddings"),
        (np.full((2, 12), np.nan, np.float32), None, "NaN"),
        (np.float32(1.0), None, "first axis"),
        (np.ones((2, 12), np.float32), "widest", "target must be"),
        (np.ones((2, 12), np.float32), lambda out: out, "one number an input"),
        ({"labels": np.ones(2)}, None, "input_ids"),
    ],
)
def test_inputs_that_cannot_be_used_are_named(Z: Any, target: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sensitivity(small_net(), Z, target)


def test_other_wrong_calls() -> None:
    with pytest.raises(InputError, match="torch module"):
        sensitivity(object(), np.ones((1, 2)))
    with pytest.raises(InputError, match="scale"):
        sensitivity(small_net(), np.ones((1, 12), np.float32), scale="other")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least two outputs"):
        sensitivity(small_net(1), np.ones((1, 12), np.float32), "margin")
    with pytest.raises(InputError, match="weight"):
        sensitivity_penalty(small_net(), torch.ones(1, 12), weight=-1)
    with pytest.raises(InputError, match="every"):
        SensitivityMonitor(small_net(), np.ones((1, 12)), every=0)


def test_kernel_models_answer_the_same_call() -> None:
    X, y, Z = toy.gaussian(np.random.default_rng(0), n=10, d=5)
    model = RandomFeatures(50).fit(X, y)
    np.testing.assert_array_equal(sensitivity(model, Z, scale="sqrt_d"), model.sensitivity(Z))


def test_penalty_is_the_mean_square_and_lowers_it() -> None:
    net = small_net().eval()
    x = torch.as_tensor(np.random.default_rng(0).standard_normal((6, 12)).astype(np.float32))
    before = sensitivity(net, x)
    assert float(sensitivity_penalty(net, x, weight=0.5).detach()) == pytest.approx(0.5 * np.mean(before**2), rel=1e-4)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    monitor = SensitivityMonitor(net, x, every=10)
    for _ in range(40):
        optimizer.zero_grad()
        sensitivity_penalty(net, x).backward()
        optimizer.step()
        monitor.step()
    assert [step for step, _ in monitor.history] == [10, 20, 30, 40]
    assert monitor.history[-1][1] < 0.8 * np.median(before)
    assert x.grad is None


@pytest.mark.slow
def test_the_monitor_stands_in_a_trainer(tmp_path: Any) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    model = tiny_bert()
    rows = [{"input_ids": [1, 2, 3, 4], "labels": i % 3} for i in range(8)]
    monitor = SensitivityMonitor(model, np.array([[1, 2, 3, 4]]), every=2)
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), max_steps=4, per_device_train_batch_size=2, report_to=[], save_strategy="no", use_cpu=True,
        disable_tqdm=True,
    )  # fmt: skip
    trainer = transformers.Trainer(model, arguments, train_dataset=rows, callbacks=[monitor.hf_callback()])
    trainer.train()
    assert len(monitor.history) == 2
    logged = [entry["sensitivity"] for entry in trainer.state.log_history if "sensitivity" in entry]
    assert logged == [value for _, value in monitor.history]
