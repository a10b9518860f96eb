"""Sensitivity of any torch module, and of Hugging Face models in the space of their embeddings.

Nothing of the model changes: its train mode is restored module by module, no parameter's `.grad` is touched, and callers under
`torch.no_grad()` get gradients all the same. Needs the extra 'nn'; torch is imported on use.

Axis letters: m inputs, o outputs, t tokens, e embedding size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from paperworks.errors import InputError, MissingExtra

if TYPE_CHECKING:
    from torch import Tensor, nn

    Target = Literal["margin", "logit"] | int | Callable[[Tensor], Tensor] | None
else:
    Target = Any


def need_torch() -> Any:
    """The torch module. Raises MissingExtra that names the extra."""
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("the sensitivity of networks", "nn") from error
    return torch


@contextmanager
def measuring(model: nn.Module) -> Iterator[None]:
    """In eval mode, with gradients on; afterwards every module is in the mode that it was in."""
    torch = need_torch()
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def as_leaf(model: nn.Module, Z: Any) -> tuple[Tensor, Callable[[Tensor], Tensor], Tensor | None]:
    """(inputs that gradients can be taken at, the map from them to outputs (m, o), which tokens count (m, t) or None).

    Z: floats (m, ...) in an array or tensor; or token ids (m, t), alone or in a mapping with 'input_ids' and for instance 'attention_mask',
    for models with `get_input_embeddings` and `inputs_embeds`. Of a language model the output is at the last token that counts.
    """
    torch = need_torch()
    weight = next((p for p in model.parameters() if p.is_floating_point()), None)
    device, dtype = (
        (weight.device, weight.dtype) if weight is not None else (torch.device("cpu"), torch.get_default_dtype())
    )
    rest: dict[str, Any] = {}
    if isinstance(Z, Mapping):
        rest = {
            key: value.to(device) if hasattr(value, "to") else torch.as_tensor(value, device=device)
            for key, value in Z.items()
        }
        for key in ("labels", "label"):
            rest.pop(key, None)
        Z = rest.pop("input_ids", None) if "inputs_embeds" not in rest else rest.pop("inputs_embeds")
        if Z is None:
            raise InputError(f"a mapping must hold 'input_ids' or 'inputs_embeds', got {', '.join(rest) or 'nothing'}")
    inputs = Z.detach() if isinstance(Z, torch.Tensor) else torch.as_tensor(np.asarray(Z))
    if inputs.ndim == 0:
        raise InputError("inputs must have a first axis of points, got a single number")
    inputs = inputs.to(device)
    if inputs.is_inference():
        inputs = inputs.clone()
    as_text = bool(rest)
    if not inputs.is_floating_point():
        embed: Any = getattr(model, "get_input_embeddings", None)
        if embed is None:
            raise InputError(
                f"inputs are {inputs.dtype}, which has no gradient, and {type(model).__name__} has no get_input_embeddings; "
                "give floats, or a Hugging Face model and its token ids"
            )
        inputs, as_text = embed()(inputs).detach(), True
    elif not torch.isfinite(inputs).all():
        raise InputError("the inputs hold NaN or infinity")
    leaf = inputs.to(dtype).detach().clone().requires_grad_(True)
    mask = rest.get("attention_mask")

    def outputs(x: Tensor, rows: slice = slice(None)) -> Tensor:
        kept = {key: value[rows] if getattr(value, "ndim", 0) else value for key, value in rest.items()}
        found = model(inputs_embeds=x, **kept) if as_text else model(x)
        found = getattr(found, "logits", found)
        if isinstance(found, (tuple, list)):
            found = found[0]
        if as_text and found.ndim == 3:
            seen = kept.get("attention_mask")
            last = torch.full((x.shape[0],), x.shape[1] - 1, device=x.device) if seen is None else _last(seen)
            found = found[torch.arange(x.shape[0], device=x.device), last]
        return found.reshape(x.shape[0], -1)

    outputs.rows = True  # type: ignore[attr-defined]
    return leaf, outputs, mask


def _last(mask: Tensor) -> Tensor:
    torch = need_torch()
    return (mask * torch.arange(mask.shape[1], device=mask.device)).argmax(dim=1)


def select(outputs: Tensor, target: Target, labels: Tensor | None = None) -> Tensor:
    """One number an input from outputs (m, o): (m,). None takes the only output, or the margin when there are several.

    "margin": the largest output minus the next; with labels (m,), that of the label minus the best other. "logit": the largest output.
    An integer: that output. A function: what it returns. Raises InputError for another shape.
    """
    n_outputs = outputs.shape[1]
    if target is None:
        target = "margin" if n_outputs > 1 else 0
    if callable(target):
        chosen = target(outputs)
        if chosen.shape != outputs.shape[:1]:
            raise InputError(
                f"target must give one number an input, {tuple(outputs.shape[:1])}; got {tuple(chosen.shape)}"
            )
        return chosen
    if isinstance(target, (int, np.integer)) and not isinstance(target, bool):
        if not -n_outputs <= target < n_outputs:
            raise InputError(f"target {target} is outside of {n_outputs} outputs")
        return outputs[:, int(target)]
    if target == "logit":
        return outputs.max(dim=1).values
    if target == "margin":
        if n_outputs < 2:
            raise InputError("a margin needs at least two outputs; use target=0 or None for a single one")
        if labels is None:
            best = outputs.topk(2, dim=1).values
            return best[:, 0] - best[:, 1]
        own = outputs.gather(1, labels[:, None])[:, 0]
        return own - outputs.scatter(1, labels[:, None], float("-inf")).max(dim=1).values
    raise InputError(f"target must be None, 'margin', 'logit', the number of an output or a function, got {target!r}")


def input_gradient(
    model: nn.Module, Z: Any, target: Target = None, *, labels: Any = None, batch_size: int = 128
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(inputs (m, ...), selected outputs (m,), gradients (m, ...)) in float32 or float64; of text, inputs are embeddings (m, t, e).

    labels (m,) are used by target "margin". Tokens that the attention mask leaves out have gradient 0.
    """
    torch = need_torch()
    values, grads = [], []
    with measuring(model):
        leaf, outputs, mask = as_leaf(model, Z)
        wanted = None if labels is None else torch.as_tensor(np.asarray(labels), device=leaf.device).long()
        for start in range(0, leaf.shape[0], batch_size):
            rows = slice(start, start + batch_size)
            x = leaf[rows].detach().requires_grad_(True)
            chosen = select(outputs(x, rows), target, None if wanted is None else wanted[rows])  # type: ignore[call-arg]
            if not chosen.requires_grad:
                raise InputError(
                    f"the outputs of {type(model).__name__} do not depend on its inputs in a way that torch can follow"
                )
            (grad,) = torch.autograd.grad(chosen.sum(), x, allow_unused=True)
            grads.append(torch.zeros_like(x) if grad is None else grad)
            values.append(chosen.detach())
        if leaf.shape[0] == 0:
            return _numpy(leaf), np.zeros(0), _numpy(leaf)
        gradient = torch.cat(grads)
        if mask is not None and gradient.ndim == 3:
            gradient = gradient * mask[:, :, None].to(gradient.dtype)
            leaf = leaf * mask[:, :, None].to(leaf.dtype)
        return _numpy(leaf), _numpy(torch.cat(values)), _numpy(gradient)


def _numpy(tensor: Tensor) -> np.ndarray:
    torch = need_torch()
    tensor = tensor.detach().cpu()
    return np.asarray((tensor if tensor.dtype == torch.float64 else tensor.float()).numpy())


def sensitivity(
    model: Any, Z: Any, target: Target = None, *, scale: Literal["norm", "sqrt_d"] = "norm", batch_size: int = 128
) -> np.ndarray:
    """S at each input: |z| |grad of the target|, or sqrt(d) |grad| with scale="sqrt_d", over all entries of an input. (m,)

    model: a torch module, a Hugging Face model (Z token ids or the tokenizer's output; S is in the space of embeddings), or one of this
    package's regressors. target: see `select`. A network in bfloat16 or float16 is asked in its own dtype.
    Raises InputError for inputs that cannot be used, MissingExtra without torch.
    """
    if hasattr(model, "sensitivity") and hasattr(model, "predict"):
        return np.asarray(model.sensitivity(Z, scale))
    if scale not in ("norm", "sqrt_d"):
        raise InputError(f"scale must be 'norm' or 'sqrt_d', got {scale!r}")
    torch = need_torch()
    if not isinstance(model, torch.nn.Module):
        raise InputError(f"model must be a torch module or a fitted model of this package, got {type(model).__name__}")
    inputs, _, grads = input_gradient(model, Z, target, batch_size=batch_size)
    flat = inputs.reshape(inputs.shape[0], -1)
    norms = np.linalg.norm(grads.reshape(flat.shape), axis=1)
    return norms * (np.linalg.norm(flat, axis=1) if scale == "norm" else np.sqrt(flat.shape[1]))
