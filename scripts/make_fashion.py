"""Make data/fashion.parquet and data/new_fashion.parquet from Debian's dataset-fashion-mnist (MIT).

    apt-get install dataset-fashion-mnist
    python scripts/make_fashion.py /usr/share/datasets/fashion-mnist

The first 5,000 training images with their labels, and the first 500 test images without.
"""

import gzip
import io
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

CLASSES = ["t_shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle_boot"]
DATA = Path(__file__).parent.parent / "data"


def read(folder: Path, part: str, rows: int) -> tuple[list[bytes], list[str]]:
    """The first `rows` images of `part` ("train" or "t10k") as PNG bytes, and their class names."""
    pixels = np.frombuffer(unzip(folder / f"{part}-images-idx3-ubyte.gz"), np.uint8, offset=16)
    labels = np.frombuffer(unzip(folder / f"{part}-labels-idx1-ubyte.gz"), np.uint8, offset=8)
    images = pixels.reshape(-1, 28, 28)[:rows]
    return [png(image) for image in images], [CLASSES[label] for label in labels[:rows]]


def unzip(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes())


def png(image: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG", optimize=True)
    return out.getvalue()


def main() -> None:
    folder = Path(sys.argv[1])
    images, labels = read(folder, "train", 5_000)
    table = pa.table({"image": pa.array(images, pa.binary()), "label": labels})
    pq.write_table(table, DATA / "fashion.parquet", compression="zstd")
    images, _ = read(folder, "t10k", 500)
    pq.write_table(pa.table({"image": pa.array(images, pa.binary())}), DATA / "new_fashion.parquet")


if __name__ == "__main__":
    main()
