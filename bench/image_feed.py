"""Pictures from the dataset into the training step: 5,000 of Fashion-MNIST, as PNG of 28² and JPEG of 32², and 600 as
JPEG of 224², in batches of 32, all batches taken within one graph.

Baton: `Feed.stream` of the train split, without augmentation; the first epoch reads and decodes, later ones take what
is decoded. The alternative: Keras' `image_dataset_from_directory` of the same files in class folders, shuffled, which
decodes in every epoch; its first includes the listing of the files, as Baton's includes the reading of the manifest.
Pictures a second of an epoch; what TensorFlow traces and imports is traced and imported before. petastorm's reader of
its `CompressedImageCodec` is not measured: the codec wants OpenCV, which is no part of the environment.
"""

from __future__ import annotations

import io
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bench.feed import batch_rows, block_rows, drainer
from bench.harness import Comparison, build_once, kept, say

RUNS = 5
BATCH = 32
KINDS = {"28² PNG": (28, "PNG", 5000), "32² JPEG": (32, "JPEG", 5000), "224² JPEG": (224, "JPEG", 600)}
FIRST, LATER = 1.0, 2.0  # goals


def measure(runs: int) -> list[Comparison]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    return [found for name, kind in KINDS.items() for found in _compared(name, *kind, runs)]


def _compared(name: str, side: int, kind: str, count: int, runs: int) -> list[Comparison]:
    folder = kept(f"pictures-{side}-{kind.lower()}", partial(write, side=side, kind=kind, count=count))
    dataset = build_once(f"datasets/pictures-{side}", partial(build, pictures=folder))
    drains = drainer(block_rows), drainer(batch_rows)
    sides = {"baton": partial(baton, dataset, drains[0]), "keras": partial(keras_directory, folder, side, drains[1])}
    found: dict[str, list[tuple[float, float]]] = {key: [] for key in sides}
    for turn in range(-1, runs):
        for key, epochs in sides.items():
            first, later = epochs()
            say(f"{turn + 1}/{runs} {name}, {key}: first {first:,.0f}, later {later:,.0f}")
            found[key] += [(first, later)] if turn >= 0 else []
    medians = {key: [statistics.median(part) for part in zip(*values, strict=True)] for key, values in found.items()}
    against = f"image_dataset_from_directory, {name}"
    return [
        Comparison(f"{against}, {epoch}", ours, theirs, goal, "higher", "pictures/s")
        for epoch, goal, ours, theirs in zip(
            ("first epoch", "later epochs"), (FIRST, LATER), medians["baton"], medians["keras"], strict=True
        )
    ]


def write(folder: Path, side: int, kind: str, count: int) -> None:
    """Fashion-MNIST's pictures in class folders, resized; JPEGs are coloured."""
    import pyarrow.parquet as pq
    from PIL import Image

    table = pq.read_table("data/fashion.parquet").slice(0, count)
    for row, (content, label) in enumerate(zip(*(table[c].to_pylist() for c in ("image", "label")), strict=True)):
        picture = Image.open(io.BytesIO(content)).resize((side, side))
        place = folder / label / f"{row}.{kind.lower()}"
        place.parent.mkdir(parents=True, exist_ok=True)
        (picture if kind == "PNG" else picture.convert("RGB")).save(place, kind)


def build(folder: Path, pictures: Path) -> None:
    """Their dataset, as ingest builds it."""
    from baton.config.schema import validate
    from baton.data.ingestion import local
    from baton.data.sources import files

    folder.mkdir(parents=True)
    config = validate({"name": "bench", "data": {"source": str(pictures), "task": "image"}}, {}, "bench")
    local.build(config, files.resolve(str(pictures)), folder)


def baton(folder: Path, drain: Callable[[Any], int]) -> tuple[float, float]:
    """Pictures a second of the first epoch and of the second."""
    from baton.data import feed as feeds
    from baton.data.dataset import Dataset

    feeds._of_process.clear()  # what an earlier turn decoded
    started = time.perf_counter()
    feed = feeds.Feed(Dataset.load(folder), "train", BATCH, seed=7)
    blocks = feed.stream()
    return _rate(drain, blocks, feed.rows, started), _rate(drain, blocks, feed.rows, time.perf_counter())


def keras_directory(folder: Path, side: int, drain: Callable[[Any], int]) -> tuple[float, float]:
    """The same by Keras."""
    import keras

    count, started = sum(1 for _ in folder.glob("*/*")), time.perf_counter()
    batches = keras.utils.image_dataset_from_directory(
        folder, image_size=(side, side), batch_size=BATCH, seed=7, verbose=False,
        color_mode="grayscale" if side == 28 else "rgb",
    )  # fmt: skip
    return _rate(drain, batches, count, started), _rate(drain, batches, count, time.perf_counter())


def _rate(drain: Callable[[Any], int], elements: Any, rows: int, started: float) -> float:
    if drain(elements) != rows:
        raise ValueError(f"not all {rows} pictures were fed")
    return rows / (time.perf_counter() - started)
