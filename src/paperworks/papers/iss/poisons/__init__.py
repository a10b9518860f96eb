"""Availability poisons: perturbations of training pictures that give the label away.

They are here to test squeezes and detectors with, and for owners of pictures who want to know what a protection is worth. Each is fitted
on pictures and labels: `LSP(seed=0).fit(X, y).perturbation`, or `fit_transform`. `lsp`, `ops` and `ar` need no network; `surrogate`
(error-minimising noise, targeted and hypocritical perturbations) trains one and needs torch.
"""

from paperworks.papers.iss.poisons.ar import AR
from paperworks.papers.iss.poisons.base import Given, Poison
from paperworks.papers.iss.poisons.lsp import LSP
from paperworks.papers.iss.poisons.ops import OPS

__all__ = ["AR", "LSP", "OPS", "Given", "Poison"]
