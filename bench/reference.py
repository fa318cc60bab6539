"""LightGBM on the very rows of a dataset: `python -m bench.reference DATASET_FOLDER`.

It is given the encoded columns: standardising does not move a tree's splits, and categories keep
their codes. Trained on train, measured on test; prints a line of JSON.
"""

import json
import sys
import time
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from baton.data.dataset import Dataset
from baton.evaluation import metrics


def frame(dataset: Dataset, split: str) -> tuple[pd.DataFrame, np.ndarray]:
    """A split's features, with categories as such, and its target; not the values that networks embed."""
    preprocessor = dataset.preprocessor
    rows = pd.concat([pq.read_table(file).to_pandas() for file in dataset.files(split)], ignore_index=True)
    target = rows.pop(preprocessor.target_encoded).to_numpy()
    rows = rows.drop(
        columns=[e.name for e in preprocessor.encoded if e.kind == "category" and e.encoding != "vocabulary"]
    )
    codes = {
        e.name: pd.CategoricalDtype(range(e.size))
        for e in preprocessor.encoded
        if e.name in rows and e.kind == "category"
    }
    return rows.astype(codes), target


def measure(dataset: Dataset, **options: Any) -> dict[str, Any]:
    """Train LightGBM with `options` over its defaults; return test metrics and seconds."""
    import lightgbm

    rows, target = frame(dataset, "train")
    test, targets = frame(dataset, "test")
    kind = lightgbm.LGBMClassifier if dataset.preprocessor.classes else lightgbm.LGBMRegressor
    model = kind(verbose=-1, **options)
    started = time.perf_counter()
    model.fit(rows, target)
    seconds = time.perf_counter() - started
    answer = model.predict_proba if dataset.preprocessor.classes else model.predict
    predictions = np.asarray(answer(test)).reshape(len(test), -1)
    return {"options": options, "seconds": round(seconds, 1), "test": metrics.evaluate(targets, predictions)}


if __name__ == "__main__":
    print(json.dumps(measure(Dataset.load(sys.argv[1]))))
