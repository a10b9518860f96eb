"""The paper's claims, measured. Scale 'cpu': 8,000 CIFAR-10 pictures (which have been through one JPEG pass at quality 75) and a
four-layer network for ten epochs; accuracies on 2,000 clean test pictures after the last epoch. Scale 'gpu': ResNet-18, 60 epochs.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import spearmanr

from paperworks.claims import Measurement, Run, Series, claim
from paperworks.errors import DataMissing
from paperworks.nn.vision_training import Recipe
from paperworks.papers.iss.differentiable import differentiable_gray, differentiable_jpeg
from paperworks.papers.iss.poisons import AR, LSP, OPS, Given, Poison
from paperworks.papers.iss.poisons.adversarial import TAP
from paperworks.papers.iss.poisons.em import EM
from paperworks.papers.iss.spectrum import band_energy, high_share
from paperworks.papers.iss.squeeze import JPEG, Blur, Compose, Grayscale, Transform
from paperworks.papers.iss.study import Cell, Labelled, adversarial_step, train_squeezed
from paperworks.papers.iss.toy import scenes

NONE = Compose(())
SEEN = "CIFAR-10 pictures that were JPEG of quality 75 before; last epoch, clean test pictures"


def _pictures(run: Run) -> tuple[Labelled, Labelled]:
    if run.scale == "smoke":
        X, y = scenes(160, classes=4, side=16, seed=run.seed)
        return (X[:120], y[:120]), (X[120:], y[120:])
    if run.scale == "gpu":
        return _from_hub("uoft-cs/cifar10", "img", "label")
    train, test = np.load(run.data.path("cifar10/train_10k.npz")), np.load(run.data.path("cifar10/test_2k.npz"))
    rows = run.rng.permutation(10_000)[:8000]
    return (train["images"][rows], train["labels"][rows].astype(int)), (test["images"], test["labels"].astype(int))


def _from_hub(name: str, image: str, label: str, side: int = 32) -> tuple[Labelled, Labelled]:
    from datasets import load_dataset

    def arrays(split: str) -> Labelled:
        table = load_dataset(name, split=split)
        return np.stack([np.asarray(one.convert("RGB").resize((side, side))) for one in table[image]]), np.asarray(
            table[label]
        )

    return arrays("train"), arrays("test")


def _recipe(run: Run, epochs: int | None = None) -> Recipe:
    if run.scale == "gpu":
        return Recipe(epochs=epochs or 60, lr=0.1)
    return Recipe(epochs=run.at(smoke=1, cpu=epochs or 10), lr=0.05, nesterov=True)


def _train(run: Run, data: Labelled, test: Labelled, squeeze: Transform, name: str, **settings: object) -> Cell:
    model = run.at(smoke="cnn-4", cpu="cnn", gpu="resnet18")
    options: dict[str, object] = {"model": model, "recipe": _recipe(run)} | settings
    file = run.checkpoint.folder / f"{name}.pt"
    return train_squeezed(data, test, squeeze, seed=run.seed, device=run.device, checkpoint=file, **options)  # type: ignore[arg-type]


def _points(run: Run, poison: Poison) -> tuple[dict[str, float], Measurement]:
    """Five trainings: clean and poisoned without squeeze, both with JPEG at quality 10, poisoned with grayscale."""
    (X, y), test = _pictures(run)
    poisoned = poison.fit_transform(X, y)
    plan = {
        "clean": (X, NONE),
        "clean_jpeg": (X, JPEG(10)),
        "none": (poisoned, NONE),
        "jpeg": (poisoned, JPEG(10)),
        "gray": (poisoned, Grayscale()),
    }
    cells = {}
    for done, (name, (pictures, squeeze)) in enumerate(plan.items()):
        run.progress(done, len(plan), name)
        cells[name] = _train(run, (pictures, y), test, squeeze, name)
    last = {name: cell.last for name, cell in cells.items()}
    gap = last["clean"] - last["none"]
    values = {
        "gap_points": gap,
        "shortfall_points": last["clean_jpeg"] - last["jpeg"],
        "recovered_percent": 100 * (last["jpeg"] - last["none"]) / gap if gap > 0 else 0.0,
        "gray_gain_points": last["gray"] - last["none"],
        "jpeg_minus_gray_points": last["jpeg"] - last["gray"],
        **{f"{name}_percent": value for name, value in last.items()},
    }
    curves = {
        name: Series(
            cell.accuracy,
            list(range(1, len(cell.accuracy) + 1)),
            "Accuracy while training",
            x_label="epoch",
            y_label="test accuracy, %",
        )
        for name, cell in cells.items()
    }
    return last, Measurement(values, curves, SEEN)


@claim("average-over-poisons")
def average_over_poisons(run: Run) -> Measurement:
    """Table of the README: the better of JPEG-10 and grayscale, mean over the poisons, against the best of the filters before."""
    (X, y), test = _pictures(run)
    best, before = [], []
    for name, poison in _twelve(run).items():
        poisoned = poison.fit_transform(X, y)
        ours = [_train(run, (poisoned, y), test, one, f"{name}-{one!r}").last for one in (Grayscale(), JPEG(10))]
        best.append(max(ours))
        filters = [Blur(kind) for kind in ("gaussian", "mean", "median")]
        before.append([_train(run, (poisoned, y), test, one, f"{name}-{one!r}").last for one in filters])
    gain = float(np.mean(best) - np.mean(before, axis=0).max())
    return Measurement({"mean_accuracy_percent": float(np.mean(best)), "gain_points": gain}, notes=SEEN)


def _twelve(run: Run) -> dict[str, Poison]:
    if run.scale == "smoke":
        return {"lsp": LSP(), "ops": OPS()}
    named = ("deepconfuse", "ntga", "em", "rem", "shortcutgen", "tensorclog", "hypocritical", "tap", "sep")
    given: dict[str, Poison] = {name: Given(run.data.path(f"iss/{name}.npy")) for name in named}
    return given | {"lsp": LSP(), "ar": AR(), "ops": OPS()}


@claim("jpeg-restores-lsp")
def jpeg_restores_lsp(run: Run) -> Measurement:
    """README table, row LSP: 19.07 without, 82.47 with grayscale, 83.01 with JPEG-10."""
    return _points(run, LSP(seed=run.seed))[1]


@claim("gray-restores-em")
def gray_restores_em(run: Run) -> Measurement:
    """README table, row EM: 21.05, 93.01, 81.50. Class-wise noise, made with the same small network."""
    return _points(run, _em(run))[1]


def _em(run: Run, **settings: object) -> EM:
    model = run.at(smoke="cnn-4", cpu="cnn", gpu="resnet18")
    options = {"by": run.at(smoke="class", cpu="class", gpu="sample"), "rounds": run.at(smoke=1, cpu=15)} | settings
    return EM(model=model, device=run.device, seed=run.seed, **options)  # type: ignore[arg-type]


@claim("jpeg-restores-ar")
def jpeg_restores_ar(run: Run) -> Measurement:
    """README table, row AR: 13.28, 34.04, 85.15."""
    return _points(run, AR(seed=run.seed))[1]


@claim("jpeg-restores-ops")
def jpeg_restores_ops(run: Run) -> Measurement:
    """README table, row OPS: 36.55, 42.44, 82.53."""
    return _points(run, OPS(seed=run.seed))[1]


@claim("jpeg-restores-tap")
def jpeg_restores_tap(run: Run) -> Measurement:
    """README table, row TAP: 8.17, 9.11, 83.87. The authors' own poisoned pictures with a narrow ResNet-18, 30 epochs, resumable."""
    if run.scale == "smoke":
        (clean, y), test = _pictures(run)
        poisoned = TAP(model="cnn-4", surrogate_epochs=1, steps=2, seed=run.seed).fit_transform(clean, y)
    else:
        _, test = _pictures(run)
        clean, poisoned, y = _tap_pairs(run)
    settings = {"model": run.at(smoke="cnn-4", cpu="resnet18-16", gpu="resnet18"), "recipe": _recipe(run, 30)}
    plan = {"clean": (clean, NONE), "clean_jpeg": (clean, JPEG(10)), "none": (poisoned, NONE)}
    plan |= {"jpeg": (poisoned, JPEG(10)), "gray": (poisoned, Grayscale())}
    cells = {}
    for done, (name, (pictures, squeeze)) in enumerate(plan.items()):
        run.progress(done, len(plan), name)
        cells[name] = _train(run, (pictures, y), test, squeeze, name, **settings)
    values = {
        "gap_points": cells["clean"].last - cells["none"].last,
        "gray_gain_points": cells["gray"].last - cells["none"].last,
        "shortfall_points": cells["clean_jpeg"].last - cells["jpeg"].last,
        "train_accuracy_percent": cells["none"].train_accuracy[-1],
        **{f"{name}_percent": cell.last for name, cell in cells.items()},
    }
    curves = {
        name: Series(cell.accuracy, plot="Accuracy while training", x_label="epoch", y_label="test accuracy, %")
        for name, cell in cells.items()
    }
    return Measurement(values, curves, f"{len(y)} pictures, paired; {SEEN}")


def _tap_pairs(run: Run) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Poisoned pictures, re-encoded at quality 75 as their clean pairs were, those pairs, and labels."""
    tap, train = np.load(run.data.path("cifar10/tap_10k.npz")), np.load(run.data.path("cifar10/train_10k.npz"))
    pair_of = np.load(run.data.path("cifar10/tap_to_jpg_index.npy"))[tap["index"]]
    place = {int(key): row for row, key in enumerate(train["labels"].astype(int) * 5000 + train["file_number"])}
    rows = [(row, place[int(key)]) for row, key in enumerate(pair_of) if int(key) in place]
    if not rows:
        raise DataMissing("no TAP picture has its clean pair in cifar10/train_10k.npz; see the README of the data")
    mine, theirs = map(np.array, zip(*rows, strict=True))
    return train["images"][theirs], JPEG(75).pixels(tap["images"][mine]), train["labels"][theirs].astype(int)


@claim("cost-on-clean-images")
def cost_on_clean_images(run: Run) -> Measurement:
    """README table, row clean: 94.68, 92.41, 85.38."""
    train, test = _pictures(run)
    last = {
        name: _train(run, train, test, squeeze, name).last
        for name, squeeze in {"none": NONE, "gray": Grayscale(), "jpeg": JPEG(10)}.items()
    }
    values = {"jpeg_cost_points": last["none"] - last["jpeg"], "gray_cost_points": last["none"] - last["gray"]}
    both = _train(run, train, test, Grayscale(), "gray-both", squeeze_test=True).last
    return Measurement(values | {"gray_cost_both_points": last["none"] - both}, notes=SEEN)


@claim("beats-adversarial-training")
def beats_adversarial_training(run: Run) -> Measurement:
    """Abstract: mean over LSP and OPS of JPEG-10's accuracy minus that of PGD training with 7 steps, and the ratio of CPU times."""
    (X, y), test = _pictures(run)
    gains, squeezed_s, adversarial_s = [], 0.0, 0.0
    for name, poison in {"lsp": LSP(seed=run.seed), "ops": OPS(seed=run.seed)}.items():
        poisoned = poison.fit_transform(X, y)
        ours = _train(run, (poisoned, y), test, JPEG(10), f"{name}-jpeg")
        theirs = _train(
            run, (poisoned, y), test, NONE, f"{name}-pgd", step=adversarial_step(steps=run.at(smoke=1, cpu=7, gpu=10))
        )
        gains.append(ours.last - theirs.last)
        squeezed_s, adversarial_s = squeezed_s + ours.cpu_s, adversarial_s + theirs.cpu_s
    return Measurement({"gain_points": float(np.mean(gains)), "time_ratio": adversarial_s / squeezed_s}, notes=SEEN)


@claim("surrogate-decides-frequency")
def surrogate_decides_frequency(run: Run) -> Measurement:
    """Abstract: share of high frequencies in error-minimising noise, by how long the surrogate was trained on clean pictures before."""
    (X, y), _ = _pictures(run)
    X, y = X[: run.at(smoke=60, cpu=2000)], y[: run.at(smoke=60, cpu=2000)]
    epochs = run.at(smoke=[0, 1], cpu=[0, 1, 3, 10, 30])
    shares, spectra = [], {}
    for done, trained in enumerate(epochs):
        run.progress(done, len(epochs), f"{trained} epochs")
        poison = _em(
            run, by="sample", rounds=1, steps=run.at(smoke=2, cpu=20), surrogate_epochs=trained, train_batches=0
        )
        delta = poison.fit(X, y).perturbation
        shares.append(high_share(delta))
        spectra[f"{trained} epochs"] = Series(
            list(band_energy(delta)),
            plot="Spectrum of the perturbation",
            x_label="band, low to high",
            y_label="share of energy",
        )
    shares_curve = Series(
        shares,
        [float(one) for one in epochs],
        "High frequencies",
        x_label="epochs of the surrogate",
        y_label="share of energy",
    )
    rank = float(spearmanr(epochs, shares).statistic) if len(set(shares)) > 1 else 0.0
    return Measurement({"epochs_frequency_spearman": rank}, spectra | {"share": shares_curve}, SEEN)


@claim("quality-curve")
def quality_curve(run: Run) -> Measurement:
    """Accuracy by JPEG quality, under LSP and OPS (mean) and on clean pictures."""
    (X, y), test = _pictures(run)
    qualities = run.at(smoke=[10, 90], cpu=[5, 10, 20, 30, 50, 75, 90])
    sets = {"clean": X, "lsp": LSP(seed=run.seed).fit_transform(X, y), "ops": OPS(seed=run.seed).fit_transform(X, y)}
    found: dict[str, list[float]] = {name: [] for name in sets}
    for done, quality in enumerate(qualities):
        for name, pictures in sets.items():
            run.progress(done, len(qualities), f"quality {quality}, {name}")
            cell = _train(
                run,
                (pictures, y),
                test,
                JPEG(quality),
                f"{name}-{quality}",
                recipe=_recipe(run, run.at(smoke=1, cpu=6, gpu=60)),
            )
            found[name].append(cell.last)
    poisoned = (np.array(found["lsp"]) + np.array(found["ops"])) / 2
    values = {
        "best_quality": float(qualities[int(poisoned.argmax())]),
        "clean_spearman": float(spearmanr(qualities, found["clean"]).statistic)
        if len(set(found["clean"])) > 1
        else 0.0,
    }
    curves = {
        name: Series(
            one, list(map(float, qualities)), "Accuracy by JPEG quality", x_label="quality", y_label="test accuracy, %"
        )
        for name, one in found.items()
    }
    return Measurement(values, curves, SEEN)


@claim("adaptive-poisons-fall-short")
def adaptive_poisons_fall_short(run: Run) -> Measurement:
    """Abstract: class-wise noise made through JPEG-10, and through grayscale and JPEG-10, then trained with JPEG-10; the worse of the two."""
    (X, y), test = _pictures(run)
    clean = _train(run, (X, y), test, NONE, "clean").last
    makers = {
        "jpeg": lambda x: differentiable_jpeg(x, 10),
        "both": lambda x: differentiable_jpeg(differentiable_gray(x), 10),
    }
    recovered: list[float] = []
    values: dict[str, float] = {}
    for done, (name, through) in enumerate(makers.items()):
        run.progress(done, len(makers), f"through {name}")
        poisoned = _em(run, through=through).fit_transform(X, y)
        none = _train(run, (poisoned, y), test, NONE, f"{name}-none").last
        jpeg = _train(run, (poisoned, y), test, JPEG(10), f"{name}-jpeg").last
        gap = clean - none
        recovered.append(100 * (jpeg - none) / gap if gap > 0 else 100.0)
        values |= {f"{name}_none_percent": none, f"{name}_jpeg_percent": jpeg}
    return Measurement({"recovered_percent": min(recovered), "clean_percent": clean, **values}, notes=SEEN)


@claim("other-data-sets")
def other_data_sets(run: Run) -> Measurement:
    """CIFAR-100 and 100 classes of ImageNet under LSP and OPS with ResNet-18: the smallest share recovered by JPEG-10."""
    if run.scale == "smoke":
        sets = {"toy": _pictures(run)}
    else:
        sets = {
            "cifar100": _from_hub("uoft-cs/cifar100", "img", "fine_label"),
            "imagenet100": _from_hub("clane9/imagenet-100", "image", "label", 64),
        }
    recovered = []
    for name, ((X, y), test) in sets.items():
        clean = _train(run, (X, y), test, NONE, f"{name}-clean").last
        for kind, poison in {"lsp": LSP(seed=run.seed), "ops": OPS(seed=run.seed)}.items():
            poisoned = poison.fit_transform(X, y)
            none = _train(run, (poisoned, y), test, NONE, f"{name}-{kind}-none").last
            jpeg = _train(run, (poisoned, y), test, JPEG(10), f"{name}-{kind}-jpeg").last
            recovered.append(100 * (jpeg - none) / (clean - none) if clean > none else 100.0)
    return Measurement({"recovered_percent": min(recovered)})
