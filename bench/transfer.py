"""CIFAR-10 with few labelled pictures: networks that know ImageNet, frozen, against Baton's network from scratch.

Of each class 10, 50, 250 or 500 pictures in all are labelled, drawn by a seed; a fifth of them is the validation split.
Frozen: EfficientNet-Lite0 and MobileNetV2 (`make weights`) see the pictures and their mirrors at 160 pixels; the means
of their feature maps, at every depth, are computed once; a linear model is fitted on train, of each depth and of the
two deepest together; which one, and its penalty, is chosen on validation. From scratch: the default network of Baton on
the same rows at their 32 pixels, with all that training does there (augmentation, the best epoch on validation). The
share of 4,000 test pictures that is told right, mean of the seeds. MobileNetV2's last blocks were fine-tuned on dogs by
those who published these weights. The pictures are in ../shared/data, not in the project.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness import Comparison, fresh, kept, say

RUNS = 3  # seeds
SOURCE = Path("../shared/data")
NETWORKS = {
    "EfficientNet-Lite0": Path(".weights/efficientnet_lite0.keras"),
    "MobileNetV2": Path(".weights/mobilenet_v2.weights.h5"),
}
SIZE = 160  # pixels a side that the frozen networks see
COUNTS = (10, 50, 250, 500)  # labelled pictures a class
POOL, TEST = 500, 400  # pictures a class that are drawn from, and that are told
VALIDATION = 5  # every one of so many labelled ones
POINTS = {10: 0.15}  # that a frozen network has to be better by
RIGHT = 0.80  # with 5,000 pictures
PENALTIES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.3)  # of the linear model: inverse strengths


def measure(runs: int) -> list[Comparison]:
    if not SOURCE.exists():
        raise SystemExit(f"{SOURCE} is missing: CIFAR-10's pictures are no part of the project.")
    if lacking := [str(path) for path in NETWORKS.values() if not path.exists()]:
        raise SystemExit(f"{', '.join(lacking)} is missing: make weights")
    for name in NETWORKS:
        kept(_place(name), partial(_extracted, name))
    frozen = {name: fresh(probed, name, runs) for name in NETWORKS}
    scratch = [_right_from_scratch(count, runs) for count in COUNTS]
    rows = [
        Comparison(
            f"from scratch{f' and {100 * POINTS[count]:.0f} points' if count in POINTS else ''}, "
            f"{count} a class: {name}",
            right[index],
            scratch[index] + POINTS.get(count, 0),
            1.0,
            "higher",
            "right",
        )
        for name, right in frozen.items()
        for index, count in enumerate(COUNTS)
    ]
    best = max(right[-1] for right in frozen.values())
    return [*rows, Comparison(f"{RIGHT} right with {COUNTS[-1] * 10:,} pictures", best, RIGHT, 1.0, "higher", "right")]


def _extracted(name: str, path: Path) -> None:
    fresh(extract, name, str(path))


def _right_from_scratch(count: int, runs: int) -> float:
    """The mean over the seeds."""
    shares = [fresh(from_scratch, count, seed) for seed in range(runs)]
    say(f"{count} a class: from scratch {' '.join(f'{share:.3f}' for share in shares)}")
    return float(np.mean(shares))


def extract(name: str, place: str) -> None:
    """The means of a network's feature maps of all pictures, at every depth, into a file of arrays."""
    import keras

    from baton.data.images import Decoder
    from baton.networks.backbones import block_ends

    network = _backbone(name)
    ends = [network.get_layer(layer).output for layer in block_ends(network)]
    model = keras.Model(network.input, [keras.layers.GlobalAveragePooling2D()(end) for end in ends])
    arrays: dict[str, Any] = {}
    for split, pictures in (("train", _pictures("train", POOL)), ("test", _pictures("test", TEST))):
        pixels, _ = Decoder((SIZE, SIZE, 3)).decode_all(list(pictures["image"]))
        features, mirrored = (model.predict(rows, batch_size=64, verbose=0) for rows in (pixels, pixels[:, :, ::-1]))
        arrays |= {f"{split}{depth}": (a + b) / 2 for depth, (a, b) in enumerate(zip(features, mirrored, strict=True))}
        arrays |= {f"{split}_label": pictures["label"]}
    with Path(place).open("wb") as file:
        np.savez(file, **arrays)


def probed(name: str, runs: int) -> list[float]:
    """Of each count the share of test pictures told right by the linear model of the best depth, mean of the seeds."""
    with np.load(Path("warehouse/bench") / _place(name)) as file:
        arrays = dict(file)
    depths = sum(key.startswith("train") for key in arrays) - 1
    return [
        float(np.mean([_best(arrays, depths, *_drawn(arrays["train_label"], count, seed)) for seed in range(runs)]))
        for count in COUNTS
    ]


def _best(arrays: dict[str, np.ndarray], depths: int, train: np.ndarray, validation: np.ndarray) -> float:
    """The test share of the depths and the penalty whose loss on validation is the smallest."""
    from sklearn.metrics import log_loss

    labels, trials = arrays["train_label"], []
    for chosen in [*((depth,) for depth in range(depths)), (depths - 2, depths - 1)]:
        features = np.hstack([arrays[f"train{depth}"] for depth in chosen])
        for penalty in PENALTIES:
            model = _linear(penalty).fit(features[train], labels[train])
            loss = log_loss(labels[validation], model.predict_proba(features[validation]), labels=model.classes_)
            trials.append((loss, chosen, penalty, model))
    _, chosen, penalty, model = min(trials, key=lambda trial: trial[0])
    share = model.score(np.hstack([arrays[f"test{depth}"] for depth in chosen]), arrays["test_label"])
    at = " and ".join(str(depth + 1) for depth in chosen)
    say(f"{len(train) + len(validation)} pictures: depth {at} of {depths}, penalty {penalty}: {share:.3f}")
    return float(share)


def _linear(penalty: float) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=1000))


def from_scratch(count: int, seed: int) -> float:
    """The share of test pictures that Baton's default network tells right."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from baton.config.schema import validate
    from baton.data.dataset import Dataset
    from baton.data.feed import Feed
    from baton.data.ingestion import local
    from baton.data.sources import files
    from baton.networks import prediction
    from baton.training import fit

    config = validate(
        {
            "name": "bench",
            "seed": seed,
            "data": {"source": "-", "target": "label", "task": "image", "split_column": "split"},
        },
        {},
        "bench",
    )
    with tempfile.TemporaryDirectory() as folder:
        source, dataset = Path(folder) / "cifar.parquet", Path(folder) / "dataset"
        dataset.mkdir()
        pq.write_table(pa.table(_labelled(count, seed)), source)
        local.build(config, files.resolve(str(source)), dataset)
        result = fit.train(config, opened := Dataset.load(dataset))
        target, scores = prediction.predict_all(result.model, Feed(opened, "test", 512))
    return float((scores.argmax(axis=1) == target).mean())


def _labelled(count: int, seed: int) -> dict[str, list[Any]]:
    """Columns of the pictures that are labelled and of those that are told: image, label, split."""
    pool, test = _pictures("train", POOL), _pictures("test", TEST)
    train, validation = _drawn(pool["label"], count, seed)
    rows = np.concatenate([train, validation])
    return {
        "image": [*pool["image"][rows], *test["image"]],
        "label": [*pool["label"][rows], *test["label"]],
        "split": ["train"] * len(train) + ["validation"] * len(validation) + ["test"] * len(test["label"]),
    }


def _drawn(labels: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the train and of the validation split, `count` of each class together."""
    rng = np.random.default_rng(seed)
    rows = np.stack([rng.permutation(np.flatnonzero(labels == label))[:count] for label in np.unique(labels)])
    validation = count // VALIDATION
    return rows[:, validation:].ravel(), rows[:, :validation].ravel()


def _pictures(split: str, count: int) -> dict[str, np.ndarray]:
    """The first `count` pictures of each class, as bytes, and their labels."""
    import pyarrow.parquet as pq

    table = pq.read_table(SOURCE / f"cifar10-{split}.parquet", columns=["image", "label"])
    labels = np.array(table["label"].to_pylist())
    rows = np.concatenate([np.flatnonzero(labels == label)[:count] for label in np.unique(labels)])
    taken = table.take(rows)
    return {"image": np.array(taken["image"].to_pylist(), object), "label": labels[rows]}


def _backbone(name: str) -> Any:
    """The convolutional part, which takes raw pixels."""
    from baton.config.schema import Model
    from baton.networks.backbones import build_backbone

    weights = str(NETWORKS[name])
    own = Model(backbone=weights) if weights.endswith(".keras") else Model(backbone=name, weights=weights)
    return build_backbone(own, (SIZE, SIZE, 3))


def _place(name: str) -> str:
    return f"features/{name}-{SIZE}.npz"
