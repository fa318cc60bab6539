"""Raw flights to predictions in Parquet, the same network everywhere (dense 128-64, the flights' numbers).

Baton: `serving.scoring.score`, what batch_infer runs, the loading of the model included. The alternatives run on
Spark, which is up and warm, on all cores: MLflow's `spark_udf` as its documentation shows it (on a quarter of
the rows, as it is slow), and `mapInPandas` with one traced function a worker and Arrow batches of 100,000 rows.
They are given a network that standardises the numbers itself, so none of Baton's checks, lineage or quarantine.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import inputs
from bench.harness import KEPT, Comparison, alternate, build_once, rate
from bench.spark import spark_session

RUNS = 5
ROWS = 2_600_000
UDF_ROWS = ROWS // 4
WARM_ROWS = 20_000


def measure(runs: int = RUNS, rows: int = ROWS, udf_rows: int = UDF_ROWS) -> list[Comparison]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    out = KEPT / "predictions"
    model, plain = networks()
    with spark_session() as spark:
        sides = {
            "baton": lambda rows: baton(model, inputs.tiled(rows), out),
            "spark_udf": lambda rows: spark_udf(spark, plain, inputs.tiled(rows), out),
            "mapInPandas": lambda rows: map_in_pandas(spark, plain, inputs.tiled(rows), out),
        }
        for side in sides.values():
            side(WARM_ROWS)
        sizes = {"baton": rows, "spark_udf": udf_rows, "mapInPandas": rows}
        timed = {name: rate(side, sizes[name]) for name, side in sides.items()}
        medians = alternate(timed, runs)
    shutil.rmtree(out)
    return [
        Comparison(against, medians["baton"], medians[name], goal, "higher", "rows/s")
        for name, against, goal in [
            ("spark_udf", "mlflow spark_udf", 20.0),
            ("mapInPandas", "mapInPandas + tf.function", 2.0),
        ]
    ]


def baton(model: Path, source: Path, out: Path) -> Any:
    """Score with Baton → how many rows came in and went out."""
    from baton.data.sources import files
    from baton.serving import destination, scoring
    from baton.serving.raw_columns import RawColumnModel

    lineage = scoring.Lineage("flights", "1", "training-run", "fingerprint", "scoring-run")
    shutil.rmtree(out, ignore_errors=True)  # of a rival: Baton replaces nothing but its own
    with destination.replaced(out, lineage.model_name) as folder:
        return scoring.score(RawColumnModel.load(model), files.resolve(str(source)), lineage, folder, batch_rows())


def batch_rows() -> int:
    """The config's default."""
    from baton.config.schema import BatchInfer

    return BatchInfer(source="", output="").batch_rows


def spark_udf(spark: Any, plain: Path, source: Path, out: Path) -> None:
    """MLflow's documented way: a udf of the model over the columns."""
    import mlflow.pyfunc
    from pyspark.sql.functions import struct

    udf = mlflow.pyfunc.spark_udf(spark, str(plain), result_type="double", env_manager="local")
    frame = spark.read.parquet(str(source))
    frame.withColumn("prediction", udf(struct(*numbers()))).write.mode("overwrite").parquet(str(out))


def map_in_pandas(spark: Any, plain: Path, source: Path, out: Path) -> None:
    """What a careful user writes: whole partitions, one traced function a worker."""
    from pyspark.sql.types import DoubleType, StructField, StructType

    network, columns = str((plain / "data" / "model.keras").absolute()), numbers()

    def score(frames: Iterator[Any]) -> Iterator[Any]:
        import keras
        import tensorflow as tf

        call = tf.function(keras.models.load_model(network, compile=False), reduce_retracing=True)
        for frame in frames:
            values = tf.constant(frame[columns].to_numpy("float32"))
            yield frame.assign(prediction=call(values, training=False).numpy()[:, 0].astype("float64"))

    frame = spark.read.parquet(str(source))
    schema = StructType([*frame.schema.fields, StructField("prediction", DoubleType())])
    frame.mapInPandas(score, schema).write.mode("overwrite").parquet(str(out))


def numbers() -> list[str]:
    """The raw columns that the network reads."""
    return [column.name for column in inputs.numbers().preprocessor.features]


def networks() -> tuple[Path, Path]:
    """(Baton's model folder, the same network saved by MLflow with the standardising as its first layers)."""

    def make(folder: Path) -> None:
        import mlflow.tensorflow

        from baton.networks import build
        from baton.serving.raw_columns import RawColumnModel

        dataset = inputs.numbers()
        network = build.build(dataset.preprocessor, inputs.config().model)
        RawColumnModel(dataset.preprocessor, network).save(folder / "baton")
        mlflow.tensorflow.save_model(standardising(network, dataset.preprocessor), str(folder / "mlflow"))

    folder = build_once("networks", make)
    return folder / "baton", folder / "mlflow"


def standardising(network: Any, preprocessor: Any) -> Any:
    """A network of encoded numbers → one of raw numbers [rows, d]; missing ones count as the mean."""
    import keras

    scales = [preprocessor.spec["features"][column.name]["parts"][0] for column in preprocessor.features]
    raw = keras.Input([len(scales)])
    layer = keras.layers.Normalization(mean=[s["mean"] for s in scales], variance=[s["std"] ** 2 for s in scales])
    return keras.Model(raw, network({"numbers": keras.ops.nan_to_num(layer(raw))}))
