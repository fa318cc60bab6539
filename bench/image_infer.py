"""CIFAR-10's 10,000 test pictures, JPEGs of 32², to class probabilities in Parquet, by the default network of pictures.

Baton: `scoring.score`, what batch_infer runs, the loading of the model, the checks of every picture and its lineage
included. The alternatives run on Spark, which is up and warm; the one file is one partition, so one worker has it.
MLflow's `spark_udf` of a Keras model, as its documentation shows it: the pictures decoded by a pandas_udf into columns
of numbers, which the model's signature shapes. And what a careful user writes: one pandas_udf over an iterator of
batches, the model loaded once a worker, pictures decoded by tf.data meanwhile, one traced function. The network
is the same, its weights as they begin. The pictures are in ../shared/data, not in the project.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from bench import infer
from bench.harness import KEPT, Comparison, alternate, build_once, kept, rate
from bench.spark import spark_session

RUNS = 5
SOURCE = Path("../shared/data/cifar10-test.parquet")
ROWS, WARM_ROWS, LEARNT = 10_000, 600, 600
SHAPE = (32, 32, 3)
BATCH = 256  # pictures that the careful user's network sees at once
UDF, ITERATOR = "mlflow spark_udf", "pandas_udf, model loaded once"
GOALS = {UDF: 5.0, ITERATOR: 1.5}
TYPE = "array<float>"


def measure(runs: int = RUNS, rows: int = ROWS) -> list[Comparison]:
    if not SOURCE.exists():
        raise SystemExit(f"{SOURCE} is missing: CIFAR-10's pictures are no part of the project.")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    model, plain = networks()
    out = KEPT / "predictions"
    with spark_session() as spark:
        sides = {
            "baton": lambda rows: infer.baton(model, pictures(rows), out),
            UDF: lambda rows: spark_udf(spark, plain, pictures(rows), out),
            ITERATOR: lambda rows: iterator_udf(spark, plain, pictures(rows), out),
        }
        for side in sides.values():
            side(WARM_ROWS)
        medians = alternate({name: rate(side, rows) for name, side in sides.items()}, runs)
    shutil.rmtree(out)
    return [
        Comparison(name, medians["baton"], medians[name], goal, "higher", "pictures/s") for name, goal in GOALS.items()
    ]


def pictures(rows: int) -> Path:
    """So many of the pictures, without labels, as one Parquet file of two row groups, one for each core."""
    import pyarrow.parquet as pq

    def make(path: Path) -> None:
        table = pq.read_table(SOURCE, columns=["image", "file"]).slice(0, rows)
        pq.write_table(table, path, row_group_size=-(-rows // 2))

    return kept(f"cifar-{rows}.parquet", make)


def networks() -> tuple[Path, Path]:
    """(Baton's model folder, the same network saved by MLflow)."""

    def make(folder: Path) -> None:
        import mlflow.tensorflow
        import numpy as np
        from mlflow.models import infer_signature

        from baton.networks import build
        from baton.serving.raw_columns import RawColumnModel

        config, dataset = learnt(folder)
        network = build.build(dataset.preprocessor, config.sized(LEARNT).model)
        RawColumnModel(dataset.preprocessor, network).save(folder / "baton")
        pixels = np.zeros((2, *SHAPE), np.float32)
        signature = infer_signature({"image": pixels}, network({"image": pixels}).numpy())
        mlflow.tensorflow.save_model(network, str(folder / "mlflow"), signature=signature)

    folder = build_once("picture-networks", make)
    return folder / "baton", folder / "mlflow"


def learnt(folder: Path) -> tuple[Any, Any]:
    """The default config of pictures, and a dataset of a few, which gives the preprocessing."""
    import pyarrow.parquet as pq

    from baton.config.schema import validate
    from baton.data.dataset import Dataset
    from baton.data.ingestion import local
    from baton.data.sources import files

    source, dataset = folder / "few.parquet", folder / "dataset"
    dataset.mkdir(parents=True)
    table = pq.read_table(SOURCE, columns=["image", "label"])
    pq.write_table(table.take([*range(0, len(table), len(table) // LEARNT)]), source)
    data = {"source": str(source), "target": "label", "task": "image"}
    config = validate({"name": "bench", "data": data}, {}, "bench")
    local.build(config, files.resolve(str(source)), dataset)
    return config, Dataset.load(dataset)


def spark_udf(spark: Any, plain: Path, source: Path, out: Path) -> None:
    """MLflow's documented way: the pixels as a column of arrays, and a udf of the model over it."""
    import mlflow.pyfunc
    import numpy as np
    import pandas as pd
    from pyspark.sql.functions import pandas_udf

    def pixels(contents: pd.Series) -> pd.Series:
        from PIL import Image

        return contents.map(lambda content: np.asarray(Image.open(io.BytesIO(content)), np.float32).ravel())

    pixels.__annotations__ = {"contents": pd.Series, "return": pd.Series}  # Spark takes no names of types
    udf = mlflow.pyfunc.spark_udf(spark, str(plain), result_type=TYPE, env_manager="local")
    frame = spark.read.parquet(str(source))
    told = frame.withColumn("prediction", udf(pandas_udf(pixels, TYPE)("image")))
    told.write.mode("overwrite").parquet(str(out))


def iterator_udf(spark: Any, plain: Path, source: Path, out: Path) -> None:
    """What a careful user writes: the model loaded once a worker, decoding side by side, one traced function."""
    import pandas as pd
    from pyspark.sql.functions import pandas_udf

    network = str((plain / "data" / "model.keras").absolute())

    def predict(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        import keras
        import numpy as np
        import tensorflow as tf

        call = tf.function(keras.models.load_model(network, compile=False), reduce_retracing=True)
        decode = partial(tf.io.decode_jpeg, channels=SHAPE[-1])
        for contents in batches:
            decoded = tf.data.Dataset.from_tensor_slices(contents.to_list()).map(decode, tf.data.AUTOTUNE)
            told = [call({"image": tf.cast(b, "float32")}, training=False) for b in decoded.batch(BATCH).prefetch(2)]
            yield pd.Series(list(np.concatenate([part.numpy() for part in told])))

    predict.__annotations__ = {"batches": Iterator[pd.Series], "return": Iterator[pd.Series]}
    frame = spark.read.parquet(str(source))
    told = frame.withColumn("prediction", pandas_udf(predict, TYPE)("image"))
    told.write.mode("overwrite").parquet(str(out))
