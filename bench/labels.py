"""Which network is the best, by labels as they are given and by corrected ones: Northcutt et al. (2021) in small.

Fashion-MNIST, 10,000 train, 2,000 validation and 10,000 test pictures. Of its shirts and T-shirts, pullovers and coats,
sneakers and boots 10, 20 or 30 % are given the other label of their pair, in train, validation and test alike. Which of
them depends on the picture, so that errors can be learnt: those that a linear model, which learnt the pair from other
pictures, finds the most like the other class.

Five networks, from 2 to 32 channels, without augmentation, each trained 25 epochs by three seeds, and asked twice: with
the weights that are the best on the validation labels as given, and with the last. The share of test pictures told
right, mean of the seeds: by the labels as given; by the corrected ones; and by the corrected ones of those pictures
alone whose given label is wrong. Each line compares, by corrected labels, the network that the labels as given rank
first with the one that corrected labels do. All shares, and paired intervals of their differences over test pictures,
are on standard error.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from bench import fashion
from bench.harness import KEPT, Comparison, fresh, say

RUNS = 3  # seeds
PAIRS = ((0, 6), (2, 4), (7, 9))  # T-shirt and shirt, pullover and coat, sneaker and ankle boot
SHARES = (0.0, 0.1, 0.2, 0.3)  # of the labels of these classes that are wrong
STRENGTH = 4.0  # of the dependence on the picture: log odds a standard deviation within the class
WIDTHS = (2, 4, 8, 16, 32)  # channels of a network's first convolution
TRAIN, VALIDATION = 10_000, 2_000  # the first of the 60,000; the linear models learn from the last
LINEAR = 12_000
LEAST = 100  # test pictures in the dataset, which wants some; all 10,000 are asked as arrays
EPOCHS = 25
WHEN = ("best epoch", "last epoch")
READINGS = ("as given", "corrected", "where wrong")

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (pixels [rows, d], classes [rows]) → [rows]


def measure(runs: int) -> list[Comparison]:
    if not fashion.SOURCE.exists():
        raise SystemExit(f"{fashion.SOURCE} is missing: apt-get install dataset-fashion-mnist")
    return [comparison for share in SHARES for comparison in _compared(share, runs)]


def _compared(share: float, runs: int) -> list[Comparison]:
    place = KEPT / "labels.npy"
    place.parent.mkdir(parents=True, exist_ok=True)
    told = []
    for seed in range(runs):
        fresh(train_all, share, seed, str(place))
        told.append(np.load(place))
        say(f"{share:.0%} wrong: seed {seed}")
    place.unlink()
    given, corrected = labels(share)["test"]
    right = readings(np.stack(told), given, corrected)
    about = [f"{share:.0%} wrong, {when}" if share else f"none wrong, {when}" for when in WHEN]
    for name, values in zip(about, right, strict=True):
        for line in table(values, given != corrected):
            say(f"{name}, {line}")
    return [ranked(name, values) for name, values in zip(about, right, strict=True)]


def labels(share: float) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{split: (labels as given [rows], corrected labels [rows])}, `share` of those of pairs wrong."""
    pixels, classes = pictures()
    score = likeness(_flat(pixels[-LINEAR:]), classes[-LINEAR:])
    return {
        split: (flipped(classes[rows], score(_flat(pixels[rows]), classes[rows]), share), classes[rows])
        for split, rows in splits().items()
    }


def pictures() -> tuple[np.ndarray, np.ndarray]:
    """The 10,000 test pictures, then the 60,000: pixels uint8 [70000, 28, 28] and classes [70000]."""
    parts = ("t10k", "train")
    pixels = [fashion._read(f"{part}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28) for part in parts]
    classes = [fashion._read(f"{part}-labels-idx1-ubyte.gz", 8) for part in parts]
    return np.concatenate(pixels), np.concatenate(classes).astype(int)


def splits() -> dict[str, slice]:
    """{split: its rows of `pictures`}."""
    ends = np.cumsum([0, 10_000, TRAIN, VALIDATION]).tolist()
    return {name: slice(*ends) for name, ends in zip(("test", "train", "validation"), pairwise(ends), strict=True)}


def _flat(pixels: np.ndarray) -> np.ndarray:
    return pixels.reshape(len(pixels), -1) / 255


def likeness(pixels: np.ndarray, classes: np.ndarray) -> Score:
    """Pixels [rows, d] and classes to learn from → a score of each picture: how like the other class of its pair."""
    from sklearn.linear_model import LogisticRegression

    def learnt(label: int, other: int) -> Callable[[np.ndarray], np.ndarray]:
        rows = np.isin(classes, (label, other))
        model = LogisticRegression(C=0.01, max_iter=300).fit(pixels[rows], classes[rows] == other)
        return model.decision_function

    return partial(_scores, {label: learnt(label, other) for label, other in _directions()})


def _directions() -> list[tuple[int, int]]:
    """Each class that errors touch, and the other one of its pair."""
    return [direction for pair in PAIRS for direction in (pair, pair[::-1])]


def _scores(by_class: dict[int, Any], pixels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Scores [rows], in standard deviations within the class; -inf of the other classes."""
    found = np.full(len(classes), -np.inf)
    for label, score in by_class.items():
        rows = classes == label
        values = score(pixels[rows])
        found[rows] = (values - values.mean()) / values.std()
    return found


def flipped(classes: np.ndarray, scores: np.ndarray, share: float) -> np.ndarray:
    """Classes [rows] and scores [rows] → labels, of which `share` of each class of a pair are the other one's.

    Drawn without replacement by odds, as the largest sums of log odds and Gumbel noise; a larger share holds a smaller
    one.
    """
    given, drawn = classes.copy(), STRENGTH * scores + np.random.default_rng(0).gumbel(size=len(classes))
    for label, other in _directions():
        rows = np.flatnonzero(classes == label)
        given[rows[np.argsort(-drawn[rows])][: round(share * len(rows))]] = other
    return given


def train_all(share: float, seed: int, place: str) -> None:
    """Train each network on labels of which `share` are wrong; what it tells of the test pictures goes into a file of
    classes uint8 [best or last epoch, networks, rows]."""
    with tempfile.TemporaryDirectory() as folder:
        dataset, test = _dataset(share, Path(folder)), pictures()[0][splits()["test"], ..., None]
        told = [_predicted(dataset, width, seed, test) for width in WIDTHS]
    np.save(place, np.stack(told, axis=1))


def _predicted(dataset: Any, width: int, seed: int, test: np.ndarray) -> np.ndarray:
    """Classes uint8 [best or last epoch, rows] that a network of so many channels tells, once it is trained."""
    import keras

    from baton.networks import prediction
    from baton.training import fit

    last: list[np.ndarray] = []
    keep: keras.callbacks.Callback = keras.callbacks.LambdaCallback(
        on_train_end=lambda logs: last.extend(keep.model.get_weights())
    )
    result = fit.train(_config(width, seed), dataset, callbacks=[keep])
    best = prediction.predict(result.model, {"image": test})
    result.model.set_weights(last)
    told = np.stack([best, prediction.predict(result.model, {"image": test})]).argmax(axis=2)
    say(f"{width} channels, seed {seed}: best epoch {result.best_epoch + 1}, {result.seconds:.0f} s")
    return told.astype(np.uint8)


def _dataset(share: float, folder: Path) -> Any:
    """The dataset of train and validation pictures with labels as given, as ingest builds it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from baton.data.dataset import Dataset
    from baton.data.ingestion import local
    from baton.data.sources import files

    pixels, rows, given = pictures()[0], splits(), labels(share)
    columns: dict[str, list[Any]] = {"image": [], "label": [], "split": []}
    for split, most in (("train", TRAIN), ("validation", VALIDATION), ("test", LEAST)):
        columns["image"] += [fashion._png(picture) for picture in pixels[rows[split]][:most]]
        columns["label"] += [f"class {label}" for label in given[split][0][:most]]
        columns["split"] += [split] * most
    source, built = folder / "pictures.parquet", folder / "dataset"
    pq.write_table(pa.table(columns), source)
    built.mkdir()
    local.build(_config(WIDTHS[0], 0), files.resolve(str(source)), built)
    return Dataset.load(built)


def _config(width: int, seed: int) -> Any:
    from baton.config.schema import validate

    tree = {
        "name": "bench",
        "seed": seed,
        "data": {"source": "-", "target": "label", "task": "image", "split_column": "split"},
        "model": {
            "layers": [
                {"type": "conv2d", "filters": width, "kernel_size": 5, "strides": 2, "padding": "same",
                 "activation": "relu"},
                {"type": "conv2d", "filters": 2 * width, "kernel_size": 3, "strides": 2, "padding": "same",
                 "activation": "relu"},
                {"type": "flatten"},
                {"type": "dense", "units": 4 * width, "activation": "relu"},
            ]
        },
        "train": {
            "epochs": EPOCHS, "patience": EPOCHS, "batch_size": 64, "learning_rate": 0.002,
            "augment": "none", "label_smoothing": 0.0, "weight_average": 0.0,
        },
    }  # fmt: skip
    return validate(tree, {}, "bench")


def readings(predicted: np.ndarray, given: np.ndarray, corrected: np.ndarray) -> np.ndarray:
    """Predicted classes [seeds, whens, networks, rows] and labels [rows] → the share of the seeds that are right
    [whens, labels as given or corrected, networks, rows]."""
    return np.stack([(predicted == truth).mean(axis=0) for truth in (given, corrected)], axis=1)


def table(right: np.ndarray, wrong: np.ndarray) -> list[str]:
    """Right [labels, networks, rows] and which given labels are wrong [rows] → a line a reading: each network's share,
    and the largest network's less the smallest's, and less each other's, with its interval."""
    lines = []
    for reading, values in zip(READINGS, (right[0], right[1], right[1][:, wrong]), strict=True):
        if values.size:
            shares = "  ".join(f"{width} {row.mean():.4f}" for width, row in zip(WIDTHS, values, strict=True))
            others = "  ".join(
                _difference(width, row, values[-1]) for width, row in zip(WIDTHS[:-1], values[:-1], strict=True)
            )
            lines.append(f"{reading}: {shares}; {WIDTHS[-1]} less {others}")
    return lines


def _difference(width: int, row: np.ndarray, largest: np.ndarray) -> str:
    from baton.evaluation import differences

    found = differences.paired("accuracy", largest, row, 0.025)
    return f"{width} {100 * found.value:+.2f} ({100 * found.low:+.2f} to {100 * found.high:+.2f})"


def ranked(about: str, right: np.ndarray) -> Comparison:
    """Right [labels, networks, rows] → by corrected labels, the network that is first as given, and that which is."""
    given, corrected = right.mean(axis=2)
    first, best = int(given.argmax()), int(corrected.argmax())
    against = f"{about}: {WIDTHS[first]} channels, first as given, against {WIDTHS[best]}, first by corrected labels"
    return Comparison(against, float(corrected[first]), float(corrected[best]), 1.0, "higher", "right")
