"""CIFAR-10 with few labelled pictures: networks that know ImageNet against Baton's network from scratch.

Of each class 10, 50, 250 or 500 pictures in all are labelled, drawn by a seed; a fifth of them is the validation split.
Frozen: EfficientNet-Lite0 and MobileNetV2 (`make weights`) see the pictures and their mirrors at 160 pixels; the means
of their feature maps, at every depth, are computed once, and `training.transfer.probes` fits and chooses as training
does. From scratch: the default network of Baton on the same rows at their 32 pixels, with all that training does there
(augmentation, the best epoch on validation). Fine-tuned: EfficientNet-Lite0 at 128 pixels, head first, then the last
blocks, one seed. The share of 4,000 test pictures that is recognised, mean of the seeds (of 250 a class, one from
scratch). MobileNetV2's last blocks were fine-tuned on dogs by those who published these weights. The pictures are in
../shared/data, not in the project.
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
SIZE, TUNED_SIZE = 160, 128  # pixels a side that frozen networks see, and that is fine-tuned at
COUNTS = (10, 50, 250, 500)  # labelled pictures a class
POOL, TEST = 500, 400  # pictures a class that are drawn from, and that are told
VALIDATION = 5  # every one of so many labelled ones
POINTS = {10: 0.15}  # that a frozen network has to be better by
RIGHT, EPOCHS = 0.80, 8  # with 5,000 pictures, fine-tuned for so long


def measure(runs: int) -> list[Comparison]:
    demand_inputs()
    for name in NETWORKS:
        kept(_place(name), partial(_extracted, name))
    frozen = {name: fresh(probed, name, runs) for name in NETWORKS}
    rows = []
    for index, count in enumerate(COUNTS[:-1]):
        scratch = _right_from_scratch(count, runs if count < COUNTS[-2] else 1)
        points = POINTS.get(count, 0)
        against = f"from scratch{f' and {100 * points:.0f} points' if points else ''}, {count} a class: "
        rows += [
            Comparison(against + name, right[index], scratch + points, 1.0, "higher", "right")
            for name, right in frozen.items()
        ]
    name, count = next(iter(NETWORKS)), COUNTS[-1]
    settings = {"transfer": "head_then_blocks", "epochs": EPOCHS}
    tuned = fresh(trained, count, 0, TUNED_SIZE, model(name), settings)
    say(f"{count} a class: {name} fine-tuned {tuned['right']:.3f}")
    against = f"{RIGHT} right with {count * 10:,} pictures, "
    return [
        *rows,
        Comparison(f"{against}{name} frozen", frozen[name][-1], RIGHT, 1.0, "higher", "right"),
        Comparison(f"{against}{name} fine-tuned", tuned["right"], RIGHT, 1.0, "higher", "right"),
    ]


def demand_inputs() -> None:
    """Say what is missing, and end."""
    if not SOURCE.exists():
        raise SystemExit(f"{SOURCE} is missing: CIFAR-10's pictures are no part of the project.")
    if lacking := [str(path) for path in NETWORKS.values() if not path.exists()]:
        raise SystemExit(f"{', '.join(lacking)} is missing: make weights")


def model(name: str) -> dict[str, str]:
    """The `model` section that makes a network the backbone."""
    weights = str(NETWORKS[name])
    return {"backbone": weights} if weights.endswith(".keras") else {"backbone": name, "weights": weights}


def _extracted(name: str, path: Path) -> None:
    fresh(extract, name, str(path))


def _right_from_scratch(count: int, runs: int) -> float:
    """The mean over the seeds."""
    shares = [fresh(trained, count, seed)["right"] for seed in range(runs)]
    say(f"{count} a class: from scratch {' '.join(f'{share:.3f}' for share in shares)}")
    return float(np.mean(shares))


def extract(name: str, place: str) -> None:
    """The means of a network's feature maps of all pictures, at every depth, into a file of arrays."""
    import keras

    from baton.config.schema import Model
    from baton.data.images import Decoder
    from baton.networks.backbones import block_ends, build_backbone

    backbone = build_backbone(Model(**model(name)), (SIZE, SIZE, 3))
    ends = [backbone.get_layer(layer).output for layer in block_ends(backbone)]
    pooled = keras.Model(backbone.input, [keras.layers.GlobalAveragePooling2D()(end) for end in ends])
    arrays: dict[str, Any] = {}
    for split, pictures in (("train", _pictures("train", POOL)), ("test", _pictures("test", TEST))):
        pixels, _ = Decoder((SIZE, SIZE, 3)).decode_all(list(pictures["image"]))
        features, mirrored = (pooled.predict(rows, batch_size=64, verbose=0) for rows in (pixels, pixels[:, :, ::-1]))
        arrays |= {f"{split}{depth}": (a + b) / 2 for depth, (a, b) in enumerate(zip(features, mirrored, strict=True))}
        arrays |= {f"{split}_label": pictures["label"]}
    with Path(place).open("wb") as file:
        np.savez(file, **arrays)


def probed(name: str, runs: int) -> list[float]:
    """Of each count the share of test pictures that the chosen probe recognises, mean of the seeds."""
    with np.load(Path("warehouse/bench") / _place(name)) as file:
        arrays = dict(file)
    classes = np.unique(arrays["train_label"])
    arrays |= {key: np.searchsorted(classes, labels) for key, labels in arrays.items() if key.endswith("_label")}
    return [
        float(np.mean([_right_probed(arrays, *_drawn(arrays["train_label"], count, seed)) for seed in range(runs)]))
        for count in COUNTS
    ]


def _right_probed(arrays: dict[str, np.ndarray], train: np.ndarray, validation: np.ndarray) -> float:
    """The test share of the probe whose depth and penalty validation chooses."""
    from baton.training.collective import SingleProcess
    from baton.training.transfer.probes import Rows, best_depth, fit_probe

    labels, alone = arrays["train_label"], SingleProcess()

    def rows(depth: int, chosen: np.ndarray) -> Rows:
        return Rows(arrays[f"train{depth}"][chosen], labels[chosen], np.ones(len(chosen)))

    depths = range(sum(key.startswith("train") for key in arrays) - 1)
    found = [fit_probe(rows(d, train), rows(d, validation), labels.max() + 1, alone) for d in depths]
    best = best_depth(found, alone)
    scores = arrays[f"test{best}"] @ found[best].kernel + found[best].bias
    share = float((scores.argmax(axis=1) == arrays["test_label"]).mean())
    say(f"{len(train) + len(validation)} pictures: depth {best + 1} of {len(found)}: {share:.3f}")
    return share


def trained(
    count: int, seed: int, size: int = 32, model: dict[str, str] | None = None, settings: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Train as `train` does → the share of test pictures that is recognised, and the result's `transfer`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from baton.config.schema import validate
    from baton.data.dataset import Dataset
    from baton.data.feed import Feed
    from baton.data.ingestion import local
    from baton.data.sources import files
    from baton.networks import prediction
    from baton.training import fit

    data = {"source": "-", "target": "label", "task": "image", "split_column": "split"}
    data["image_size"] = {"height": size, "width": size}  # type: ignore[assignment]
    tree = {"name": "bench", "seed": seed, "data": data, "model": model or {}, "train": settings or {}}
    config = validate(tree, {}, "bench")
    with tempfile.TemporaryDirectory() as folder:
        source, dataset = Path(folder) / "cifar.parquet", Path(folder) / "dataset"
        dataset.mkdir()
        pq.write_table(pa.table(_labelled(count, seed)), source)
        local.build(config, files.resolve(str(source)), dataset)
        result = fit.train(config, opened := Dataset.load(dataset))
        target, scores = prediction.predict_all(result.model, Feed(opened, "test", 512))
    return {"right": float((scores.argmax(axis=1) == target).mean()), "transfer": result.transfer}


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


def _place(name: str) -> str:
    return f"features/{name}-{SIZE}.npz"
