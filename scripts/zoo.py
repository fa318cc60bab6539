"""Write baton/networks/zoo.csv: what Keras' networks cost, counted here, and what was published of their accuracy.

Usage: python scripts/zoo.py [NAME...]; without names all of them, which takes some minutes.
"""

from __future__ import annotations

import csv
import os
import re
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).parents[1]))

KERAS = "keras.io/api/applications"
# Top-1 and top-5 in per cent, as Keras' table has them.
PUBLISHED: dict[str, tuple[float, float | None]] = {
    "Xception": (79.0, 94.5), "VGG16": (71.3, 90.1), "VGG19": (71.3, 90.0), "ResNet50": (74.9, 92.1),
    "ResNet50V2": (76.0, 93.0), "ResNet101": (76.4, 92.8), "ResNet101V2": (77.2, 93.8), "ResNet152": (76.6, 93.1),
    "ResNet152V2": (78.0, 94.2), "InceptionV3": (77.9, 93.7), "InceptionResNetV2": (80.3, 95.3),
    "MobileNet": (70.4, 89.5), "MobileNetV2": (71.3, 90.1), "DenseNet121": (75.0, 92.3), "DenseNet169": (76.2, 93.2),
    "DenseNet201": (77.3, 93.6), "NASNetMobile": (74.4, 91.9), "NASNetLarge": (82.5, 96.0),
    "EfficientNetB0": (77.1, 93.3), "EfficientNetB1": (79.1, 94.4), "EfficientNetB2": (80.1, 94.9),
    "EfficientNetB3": (81.6, 95.7), "EfficientNetB4": (82.9, 96.4), "EfficientNetB5": (83.6, 96.7),
    "EfficientNetB6": (84.0, 96.8), "EfficientNetB7": (84.3, 97.0), "EfficientNetV2B0": (78.7, 94.3),
    "EfficientNetV2B1": (79.8, 95.0), "EfficientNetV2B2": (80.5, 95.1), "EfficientNetV2B3": (82.0, 95.8),
    "EfficientNetV2S": (83.9, 96.7), "EfficientNetV2M": (85.3, 97.4), "EfficientNetV2L": (85.7, 97.5),
    "ConvNeXtTiny": (81.3, None), "ConvNeXtSmall": (82.3, None), "ConvNeXtBase": (85.3, None),
    "ConvNeXtLarge": (86.3, None), "ConvNeXtXLarge": (86.7, None),
}  # fmt: skip
# What Keras' table lacks, by the docstring of its module, for the weights that Keras has.
DOCSTRING, DOCSTRINGS = "keras.applications.mobilenet_v3", {"MobileNetV3Large": 75.6, "MobileNetV3Small": 68.1}
USUAL = 224  # pixels, where Keras leaves the size open
PROTOCOL = "ImageNet's validation, 1 model"
# The table says nothing of crops; of its older networks, the README of keras-applications does.
CENTRE = re.compile(r"VGG|Xception|ResNet|Inception|DenseNet|NASNet|EfficientNetB|MobileNet(V2)?$")
LARGER = ("ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtXLarge")  # learnt from ImageNet-21k's 14 million pictures first


def main(names: list[str]) -> None:
    from baton.networks import backbones, zoo

    rows = {} if not names else {row.name: row for row in zoo.models()}
    for name in names or backbones.names():
        rows[name] = measured(name)
        print(f"{name}: {rows[name].parameters:,} parameters, {rows[name].multiply_adds:,} multiply-adds", flush=True)
    with zoo.TABLE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(zoo.Pretrained.__dataclass_fields__)
        for name in sorted(rows):
            writer.writerow(["" if value is None else value for value in vars(rows[name]).values()])


def measured(name: str):
    """A network's row: of the whole network, its classifier with it, at the size that it was published with."""
    import keras

    from baton.networks import backbones, zoo
    from baton.networks.costs import layer_costs, totals

    build = getattr(keras.applications, name)
    network = build(weights=None)
    size = network.input_shape[1] or USUAL
    if None in network.input_shape[1:]:
        network = build(weights=None, input_shape=(size, size, 3))
    parameters, multiply_adds = totals(layer_costs(network))
    keras.backend.clear_session()
    smallest = backbones.SMALLEST_OF.get(name, backbones.SMALLEST)
    return zoo.Pretrained(name, size, smallest, parameters, multiply_adds, *published(name))


def published(name: str) -> tuple[float, float | None, str, str]:
    """A network's top-1 and top-5, by what protocol, and where that stands."""
    crop = "centre crop" if CENTRE.match(name) else "crop not stated"
    protocol = f"{PROTOCOL}, {crop}{', ImageNet-21k before' if name in LARGER else ''}"
    if name in DOCSTRINGS:
        return DOCSTRINGS[name], None, protocol, DOCSTRING
    return *PUBLISHED[name], protocol, KERAS


if __name__ == "__main__":
    main(sys.argv[1:])
