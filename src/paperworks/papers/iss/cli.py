"""`paperworks iss`: squeeze a folder, ask whether a labelled folder looks poisoned, and make the table of countermeasures."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from paperworks.errors import InputError
from paperworks.papers.iss.detect import detect as detect_poison
from paperworks.papers.iss.folder import ENDINGS, squeeze_folder
from paperworks.papers.iss.squeeze import parse
from paperworks.progress import terminal

app = typer.Typer(
    help="Training pictures that you cannot fully trust: look at them, squeeze them.", no_args_is_help=True
)


@app.command()
def squeeze(
    source: Annotated[Path, typer.Argument(help="folder of pictures")],
    target: Annotated[Path, typer.Argument(help="folder to write; made if absent")],
    method: Annotated[str, typer.Option(help="jpeg:10, gray, bits:2, ... joined by +")] = "jpeg:10",
    workers: Annotated[int, typer.Option(help="processes")] = 1,
    keep_jpeg: Annotated[bool, typer.Option(help="store the JPEG streams, not PNG of their pixels")] = False,
    keep_alpha: Annotated[bool, typer.Option(help="leave alpha channels as they are")] = False,
    skip_bad: Annotated[bool, typer.Option(help="end with status 0 though some files could not be read")] = False,
    dry_run: Annotated[bool, typer.Option(help="only count")] = False,
) -> None:
    """Squeeze every picture of a folder into another one; run it again to go on after an interruption."""
    with terminal("squeeze") as progress:
        report = squeeze_folder(
            source,
            target,
            parse(method),
            workers=workers,
            keep_jpeg=keep_jpeg,
            keep_alpha=keep_alpha,
            dry_run=dry_run,
            progress=progress,
        )
    typer.echo(
        f"{report.planned} pictures: {report.squeezed} squeezed, {report.kept} kept from before, {len(report.bad)} bad"
    )
    for name, why in report.bad.items():
        typer.echo(f"  {name}: {why}", err=True)
    if report.bad and not skip_bad:
        raise typer.Exit(1)


@app.command()
def detect(
    source: Annotated[Path, typer.Argument(help="folder of pictures, or an .npz with images and labels")],
    labels: Annotated[str, typer.Option(help="'folder': a class is a subfolder; or a CSV of file,label")] = "folder",
    n: Annotated[int, typer.Option(help="pictures to look at")] = 5000,
    seed: Annotated[int, typer.Option(help="seed of the sample")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="the whole report as JSON")] = False,
) -> None:
    """Say whether a labelled set looks poisoned, of what kind, and which squeeze to take."""
    pictures, names = _labelled(source, labels)
    with terminal("detect") as progress:
        report = detect_poison(pictures, names, n=n, seed=seed, progress=progress)
    typer.echo(json.dumps(report.to_dict(), indent=1) if as_json else report.summary())


@app.command()
def bench(
    train: Annotated[Path, typer.Argument(help=".npz with images uint8 (n, h, w, c) and labels")],
    test: Annotated[Path, typer.Argument(help="the same for testing")],
    poisons: Annotated[
        str, typer.Option(help="clean, lsp, ops, ar, em, tap, or .npy files, by commas")
    ] = "clean,lsp,ops,ar",
    squeezes: Annotated[str, typer.Option(help="none, gray, jpeg:10, ..., by commas")] = "none,gray,jpeg:10,bits:2",
    model: Annotated[str, typer.Option(help="cnn, resnet18-16, ...")] = "cnn",
    epochs: Annotated[int, typer.Option(help="passes over the training pictures")] = 10,
    seeds: Annotated[int, typer.Option(help="repeats")] = 1,
    max_seconds: Annotated[float | None, typer.Option(help="begin no training after so many")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
) -> None:
    """Train on every poison through every squeeze, and print the table of test accuracies in percent."""
    from paperworks.nn.vision_training import Recipe
    from paperworks.papers.iss.study import as_markdown, benchmark

    with terminal("bench") as progress:
        cells = benchmark(
            _npz(train),
            _npz(test),
            {name: _poison(name) for name in poisons.split(",")},
            squeezes.split(","),
            model=model,
            recipe=Recipe(epochs=epochs, lr=0.05, nesterov=True),
            seeds=seeds,
            max_seconds=max_seconds,
            device=device,
            progress=progress,
        )
    typer.echo(as_markdown(cells))


def _poison(name: str):  # type: ignore[no-untyped-def]
    from paperworks.papers.iss.poisons import AR, LSP, OPS, Given

    if name == "clean":
        return None
    if name.endswith(".npy"):
        return Given(Path(name))
    if name in ("em", "tap"):
        from paperworks.papers.iss.poisons.adversarial import TAP
        from paperworks.papers.iss.poisons.em import EM

        return EM(by="class") if name == "em" else TAP()
    try:
        return {"lsp": LSP, "ops": OPS, "ar": AR}[name]()
    except KeyError:
        raise InputError(
            f"there is no poison {name!r}; there are clean, lsp, ops, ar, em, tap, and .npy files"
        ) from None


def _npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return file["images"], file["labels"].astype(np.int64)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"cannot read images and labels from {path}: {error}") from error


def _labelled(source: Path, labels: str) -> tuple[object, np.ndarray]:
    if source.suffix == ".npz":
        return _npz(source)
    if not source.is_dir():
        raise InputError(f"{source} is neither a folder of pictures nor an .npz file")
    if labels == "folder":
        files = sorted(path for path in source.rglob("*") if path.suffix.lower() in ENDINGS)
        pairs = [(path, path.relative_to(source).parts[0]) for path in files if path.parent != source]
    else:
        with open(labels, newline="", encoding="utf-8") as file:
            pairs = [
                (source / row[0], row[1]) for row in csv.reader(file) if len(row) >= 2 and (source / row[0]).is_file()
            ]
    if not pairs:
        raise InputError(
            f"no labelled pictures in {source}; classes are subfolders, or pass --labels FILE.csv with lines of file,label"
        )
    return _Files([path for path, _ in pairs]), np.array([label for _, label in pairs])


class _Files:
    """Pictures of files, opened when they are asked for."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> object:
        from PIL import Image

        with Image.open(self.paths[index]) as image:
            return image.convert("L" if image.mode in ("L", "1") else "RGB")
