"""A report in words: the table, what the numbers suggest, and what they do not say."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from paperworks.papers.robustness_law.report import RobustnessReport

ROWS = ("sensitivity", "margin", "first_order_radius", "flip_radius")
_LABELS = {
    "sensitivity": "sensitivity, size of the input times slope",
    "margin": "margin",
    "first_order_radius": "first-order radius, margin over slope",
    "flip_radius": "flip radius, found by search",
    "certified_radius": "certified radius",
}


def advice(report: RobustnessReport) -> tuple[str, ...]:
    """Sentences from the numbers of a report."""
    found = []
    flips = report.flip_radius[np.isfinite(report.flip_radius)]
    if flips.size:
        share = float(
            np.median(
                report.flip_radius[np.isfinite(report.flip_radius)]
                / np.maximum(report.input_norm[np.isfinite(report.flip_radius)], 1e-300)
            )
        )
        what = "flips an answer" if report.tolerance is None else f"moves the output by {report.tolerance:.3g}"
        found.append(f"For half of the points a change of {share:.2%} of the input's size or less {what}.")
        first = report.first_order_radius[np.isfinite(report.flip_radius)]
        factor = float(np.median(first / np.maximum(flips, 1e-300)))
        if factor > 2:
            found.append(
                f"The gradient is too hopeful here: flips lie {factor:.1f} times nearer than margin over slope says."
            )
    else:
        found.append("No change that was tried flips an answer.")
    if report.n_parameters is not None and math.isfinite(report.bound):
        if report.n_parameters < report.p_needed:
            found.append(
                f"With {report.n_parameters:,.0f} parameters for {report.n_train:,} points in {report.dimension:,} dimensions the universal law "
                f"allows no model that fits noisy labels a sensitivity below {report.bound:.2g}; it would take {report.p_needed:,.0f}. "
                f"By the effective dimension of the data, {report.effective_dimension:.1f}, the bound is {report.bound_effective:.2g}."
            )
        else:
            found.append(
                "The model is large enough for the universal law; more width alone need not help, which is the paper's point."
            )
        if report.ratio > 3:
            found.append(
                f"The sensitivity is {report.ratio:.1f} times the bound: there is room at this size. Try the penalty on the "
                "sensitivity, augmentation or adversarial training before more width."
            )
    if report.parity:
        names = ", ".join(f"{name} {value:.2f}" for name, value in report.parity.items())
        found.append(
            f"Evenness of the activations: {names} (1 even, 0 odd). For tangent kernels an even one makes width help; in networks that "
            "learn features, parity alone does not decide, so compare the radii of two trained networks, not their sensitivities."
        )
    return tuple(found)


def limits(report: RobustnessReport) -> tuple[str, ...]:
    """What a reader must not conclude."""
    found = [
        "Flip radii come from a search: a nearer flip may exist. They are no certificate.",
        "The first-order radius takes the slope at the point for the slope everywhere; it bounds nothing.",
        (
            "The universal bound is a necessary condition up to a constant, for models that fit labels with noise; meeting it "
            "proves nothing. It is compared with the sensitivity over the typical size of the output."
        ),
    ]
    if report.certified_radius is not None:
        found.append(
            f"Certified radii (first {report.certified_radius.size} points) hold for every change of that size, by intervals through the layers, "
            "up to rounding; they are usually far too small."
        )
    else:
        found.append(
            "Nothing here is certified: that is offered for small fully connected networks and linear classifiers only."
        )
    if report.gradient_kind == "finite differences":
        found.append(
            "Slopes are finite differences of the model's outputs, which miss steps and kinks; no PGD was run."
        )
    return (*found, *report.notes)


def markdown(report: RobustnessReport) -> str:
    """The report as a page in Markdown."""
    size = "unknown" if report.n_parameters is None else f"{report.n_parameters:,.0f}"
    lines = [f"# Robustness of {report.model}", "", *(f"- {line}" for line in report.advice), ""]
    lines += ["| | 5 % | 25 % | half | 75 % | 95 % |", "| --- | ---: | ---: | ---: | ---: | ---: |"]
    rows = [*ROWS, "certified_radius"] if report.certified_radius is not None else [*ROWS]
    for name in rows:
        cells = " | ".join(f"{value:.3g}" for value in report.quantiles(name).values())
        lines.append(f"| {_LABELS[name]} | {cells} |")
    lines += ["", "| | |", "| --- | ---: |"]
    facts = [
        ("points looked at", f"{report.sensitivity.size}"),
        ("parameters", size),
        ("training points", f"{report.n_train:,}"),
        ("dimension, effective", f"{report.dimension:,}, {report.effective_dimension:.1f}"),
        ("sensitivity over output size", f"{report.relative_sensitivity:.3g}"),
        ("universal bound, by effective dimension", f"{report.bound:.3g}, {report.bound_effective:.3g}"),
        ("ratio to the bound", f"{report.ratio:.3g}"),
        ("slopes", report.gradient_kind),
    ]
    if report.accuracy is not None:
        facts.append(("accuracy", f"{report.accuracy:.3f}"))
    lines += [f"| {name} | {value} |" for name, value in facts]
    if report.per_class:
        lines += ["", "| class | points | accuracy | sensitivity | margin | first-order radius | flip radius |"]
        lines += ["| --- " + "| ---: " * 6 + "|"]
        lines += [
            f"| {row['class']} | {row['points']} | {row['accuracy']:.3f} | "
            + " | ".join(f"{row[name]:.3g}" for name in ROWS)
            + " |"
            for row in report.per_class
        ]
    lines += ["", "What this does not say:", "", *(f"- {line}" for line in report.limits)]
    return "\n".join(lines) + "\n"


def plain(value: Any) -> Any:
    """JSON values: arrays as lists, NaN and infinity as None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def compare(before: RobustnessReport, after: RobustnessReport) -> str:
    """Two reports side by side, as a table in Markdown: medians, accuracy, and what changed by which factor."""
    lines = ["| median | before | after | factor |", "| --- | ---: | ---: | ---: |"]
    for name in ROWS:
        old, new = before.quantiles(name)[0.5], after.quantiles(name)[0.5]
        lines.append(f"| {_LABELS[name]} | {old:.3g} | {new:.3g} | {new / old if old else math.nan:.2f} |")
    if before.accuracy is not None and after.accuracy is not None:
        lines.append(f"| accuracy | {before.accuracy:.3f} | {after.accuracy:.3f} | |")
    return "\n".join(lines) + "\n"
