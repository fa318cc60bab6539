"""Fashion-MNIST whole, its own 60,000 and 10,000 pictures, with a config that names nothing but the data; 5,000 of the
60,000 are the validation split. One training a side, each in a process of its own.

The alternative: the small network of Keras' tutorial (convolutions of 32 and 64, half of the units dropped), batches of
128 by Adam, on arrays in memory for as many seconds as Baton trained, of which the weights best on the same validation
rows are kept. The share of the 10,000 that is told right, and the minutes of Baton's training with its validation,
after ingest. The pictures are those of Debian's package dataset-fashion-mnist.
"""

from __future__ import annotations

import gzip
import io
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness import Comparison, build_once, fresh, say

RUNS = 1
SOURCE = Path("/usr/share/datasets/fashion-mnist")
VALIDATION = 12  # every one of so many train pictures
RIGHT, MINUTES = 0.935, 10.0  # goals
CLASSES = 10


def measure(runs: int) -> list[Comparison]:
    if not SOURCE.exists():
        raise SystemExit(f"{SOURCE} is missing: apt-get install dataset-fashion-mnist")
    folder = build_once("datasets/fashion-whole", build)
    ours, theirs, minutes = [], [], []
    for seed in range(runs):
        right, seconds = fresh(baton, str(folder), seed)
        ours, minutes = [*ours, right], [*minutes, seconds / 60]
        say(f"{seed + 1}/{runs} Baton: {right:.4f} right after {seconds:.0f} s")
        theirs.append(fresh(tutorial, str(folder), seed, seconds))
        say(f"{seed + 1}/{runs} Keras' tutorial: {theirs[-1]:.4f}")
    mean = float(np.mean(ours))
    return [
        Comparison("Keras' tutorial network, as many minutes", mean, float(np.mean(theirs)), 1.0, "higher", "right"),
        Comparison(f"{RIGHT} right", mean, RIGHT, 1.0, "higher", "right"),
        Comparison(f"{MINUTES:.0f} minutes", max(minutes), MINUTES, 1.0, "lower", "minutes"),
    ]


def build(folder: Path) -> None:
    """The dataset of all pictures, as ingest builds it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from baton.data.ingestion import local
    from baton.data.sources import files

    folder.mkdir(parents=True)
    pictures, labels, splits = [], [], []
    for part in ("train", "t10k"):
        values = _read(f"{part}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
        pictures += [_png(value) for value in values]
        labels += _read(f"{part}-labels-idx1-ubyte.gz", 8).tolist()
        held = ["validation" if row % VALIDATION == 0 else "train" for row in range(len(values))]
        splits += held if part == "train" else ["test"] * len(values)
    table = {"image": pictures, "label": [f"class {label}" for label in labels], "split": splits}
    source = folder.with_name(f"{folder.name}.parquet")
    pq.write_table(pa.table(table), source)
    local.build(_config(), files.resolve(str(source)), folder)
    source.unlink()


def baton(folder: str, seed: int) -> tuple[float, float]:
    """The share of test pictures told right, and the seconds of training."""
    from baton.data.dataset import Dataset
    from baton.data.feed import Feed
    from baton.networks import prediction
    from baton.training import fit

    dataset = Dataset.load(Path(folder))
    started = time.perf_counter()
    result = fit.train(_config().overridden({"seed": seed}), dataset)
    seconds = time.perf_counter() - started
    target, output = prediction.predict_all(result.model, Feed(dataset, "test", 512))
    return float((output.argmax(axis=1) == target).mean()), seconds


def tutorial(folder: str, seed: int, seconds: float) -> float:
    """The share of test pictures that the tutorial's network tells right after so many seconds of training."""
    import keras

    from baton.data.dataset import Dataset
    from baton.data.feed import Feed

    dataset = Dataset.load(Path(folder))
    rows = {split: Feed(dataset, split, 512).arrays() for split in ("train", "validation", "test")}
    pictures = {split: (r["image"].astype(np.float32) / 255, r["target"]) for split, r in rows.items()}
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(64, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    best, weights, until = -1.0, model.get_weights(), time.perf_counter() + seconds
    while time.perf_counter() < until:
        history = model.fit(*pictures["train"], 128, verbose=0, validation_data=pictures["validation"]).history
        if history["val_accuracy"][0] > best:
            best, weights = history["val_accuracy"][0], model.get_weights()
    model.set_weights(weights)
    return float(model.evaluate(*pictures["test"], 512, verbose=0)[1])


def _config() -> Any:
    from baton.config.schema import validate

    data = {"source": "-", "target": "label", "task": "image", "split_column": "split"}
    return validate({"name": "bench", "data": data}, {}, "bench")


def _read(name: str, header: int) -> np.ndarray:
    with gzip.open(SOURCE / name) as opened:
        return np.frombuffer(opened.read()[header:], np.uint8)


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG")
    return written.getvalue()
