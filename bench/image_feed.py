"""Pictures from the dataset into the training step: 5,000 of Fashion-MNIST, as PNG of 28² and JPEG of 32², and 600 as
JPEG of 224², in batches of 32, all batches taken within one graph.

Baton: `Feed.stream` of the train split, without augmentation; the first epoch reads and decodes, later ones take what
is decoded. The alternative: Keras' `image_dataset_from_directory` of the same files in class folders, shuffled, which
decodes in every epoch; its first includes the listing of the files, as Baton's includes the reading of the manifest.
And petastorm's reader of its `CompressedImageCodec`, row by row, by two threads, without batches or TensorFlow; the
codec wants OpenCV, which is in `make peers`' packages alone: `PYTHONPATH=.peers python -m bench image_feed`.
Pictures a second of an epoch; what TensorFlow traces and imports is traced and imported before.
"""

from __future__ import annotations

import importlib.util
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
from bench.spark import spark_session

RUNS = 5
BATCH = 32
KINDS = {"28² PNG": (28, "PNG", 5000), "32² JPEG": (32, "JPEG", 5000), "224² JPEG": (224, "JPEG", 600)}
FIRST, LATER, CODEC = 1.0, 2.0, 5.0  # goals
KERAS, PETASTORM = "image_dataset_from_directory", "petastorm's CompressedImageCodec"


def measure(runs: int) -> list[Comparison]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    return [found for name, kind in KINDS.items() for found in _compared(name, *kind, runs)]


def _compared(name: str, side: int, kind: str, count: int, runs: int) -> list[Comparison]:
    folder = kept(f"pictures-{side}-{kind.lower()}", partial(write, side=side, kind=kind, count=count))
    dataset = build_once(f"datasets/pictures-{side}", partial(build, pictures=folder))
    drains = drainer(block_rows), drainer(batch_rows)
    sides = {"baton": partial(baton, dataset, drains[0]), KERAS: partial(keras_directory, folder, side, drains[1])}
    if importlib.util.find_spec("cv2"):
        coded = kept(f"pictures-{side}-codec", partial(write_coded, pictures=folder))
        sides[PETASTORM] = partial(codec_reader, coded)
    else:
        say(f"{PETASTORM} is left out: OpenCV is missing; make peers, and PYTHONPATH=.peers")
    found: dict[str, list[tuple[float, float]]] = {key: [] for key in sides}
    for turn in range(-1, runs):
        for key, epochs in sides.items():
            first, later = epochs()
            say(f"{turn + 1}/{runs} {name}, {key}: first {first:,.0f}, later {later:,.0f}")
            found[key] += [(first, later)] if turn >= 0 else []
    medians = {key: [statistics.median(part) for part in zip(*values, strict=True)] for key, values in found.items()}
    (first, later), others = medians.pop("baton"), medians
    return [
        Comparison(f"{key}, {name}, {epoch}", ours, theirs, goal, "higher", "pictures/s")
        for key, (their_first, their_later) in others.items()
        for epoch, ours, theirs, goal in (
            ("first epoch", first, their_first, FIRST),
            ("later epochs", later, their_later, LATER if key == KERAS else CODEC),
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


def write_coded(folder: Path, pictures: Path) -> None:
    """The pictures of class folders as petastorm's dataset, each a PNG or JPEG in a cell."""
    import numpy as np
    from petastorm.codecs import CompressedImageCodec
    from petastorm.etl.dataset_metadata import materialize_dataset
    from petastorm.unischema import Unischema, UnischemaField, dict_to_spark_row
    from PIL import Image

    places = sorted(pictures.glob("*/*"))
    kind = "png" if places[0].suffix == ".png" else "jpeg"
    rows = [{"image": np.asarray(Image.open(place))} for place in places]
    schema = Unischema(
        "Pictures", [UnischemaField("image", np.uint8, rows[0]["image"].shape, CompressedImageCodec(kind), False)]
    )
    url = folder.absolute().as_uri()
    with spark_session() as spark, materialize_dataset(spark, url, schema, row_group_size_mb=1):
        coded = [dict_to_spark_row(schema, row) for row in rows]
        spark.createDataFrame(coded, schema.as_spark_schema()).coalesce(2).write.parquet(url)


def codec_reader(folder: Path) -> tuple[float, float]:
    """The same by petastorm's reader of coded pictures."""
    from petastorm import make_reader

    def epoch() -> float:
        started, count = time.perf_counter(), 0
        with make_reader(folder.absolute().as_uri(), workers_count=2) as reader:
            for row in reader:
                count += row.image.ndim > 1
        return count / (time.perf_counter() - started)

    return epoch(), epoch()


def _rate(drain: Callable[[Any], int], elements: Any, rows: int, started: float) -> float:
    if drain(elements) != rows:
        raise ValueError(f"not all {rows} pictures were fed")
    return rows / (time.perf_counter() - started)
