"""A trained network and its preprocessing as one model of raw columns: saved, loaded, applied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from baton import names
from baton.data.columns import typed
from baton.data.preprocessing import Preprocessor, usable
from baton.data.row_parts import parts_to_encode
from baton.errors import BadInput, BatonError, listed
from baton.evaluation import prediction_intervals
from baton.runtime.threads import ahead
from baton.serving.layout import KERAS_FILE

if TYPE_CHECKING:
    from baton.data.raw_rows import RawRows


class RawColumnModel:
    """Raw columns in, predictions out: what is registered, served and used by batch_infer."""

    def __init__(self, preprocessor: Preprocessor, network: Any, interval: float | None = None):
        """`interval` is the level of the intervals that `score` gives; `BadInput` if the model keeps none of it."""
        demand_interval(preprocessor, interval)
        self.preprocessor, self.network, self.interval = preprocessor, network, interval

    @staticmethod
    def load(folder: Path | str, interval: float | None = None) -> RawColumnModel:
        """Read a model folder; the network is loaded in Keras' safe mode, nothing is unpickled.

        Raises `BadInput` for a file that is damaged, or that safe mode refuses, and as `__init__`.

        Args:
            folder: that holds `network.keras` and `preprocessor.json`.
            interval: the level of the intervals that `score` is to give: 0.8, 0.9, 0.95, or None.

        Raises:
            BadInput: for a file that is damaged or refused, and for a level that the model does not keep.

        Example:
            >>> model.save(folder / "model")
            >>> RawColumnModel.load(folder / "model").preprocessor.target
            'y'
        """
        import keras

        from baton.networks import layers, views  # noqa: F401 - registers Baton's layers with Keras

        def network() -> Any:
            return keras.models.load_model(Path(folder) / KERAS_FILE, compile=False, safe_mode=True)

        preprocessor = _read(names.PREPROCESSOR, lambda: Preprocessor.load(Path(folder) / names.PREPROCESSOR))
        return RawColumnModel(preprocessor, _read(KERAS_FILE, network), interval)

    def save(self, folder: Path) -> None:
        """Write the network (weights without optimizer state) and the preprocessing into `folder`.

        Args:
            folder: is made if it is not there.

        Example:
            >>> model.save(folder / "saved")
            >>> sorted(file.name for file in (folder / "saved").iterdir())
            ['network.keras', 'preprocessor.json']
        """
        import keras

        folder.mkdir(parents=True, exist_ok=True)
        bare = keras.Model(self.network.inputs, self.network.outputs[0])
        bare.save(folder / KERAS_FILE)
        self.preprocessor.save(folder / names.PREPROCESSOR)

    def predict(self, rows: pa.Table) -> np.ndarray:
        """Typed feature columns → network output: [rows, 1], or class probabilities [rows, k].

        Args:
            rows: the features, in the types that `columns.typed` gives, without rows that have a reason.

        Example:
            >>> model.predict(rows).shape == (rows.num_rows, 1)
            True
        """
        return self._predict(self.preprocessor.encode(rows))

    def _predict(self, encoded: dict[str, Any]) -> np.ndarray:
        from baton.networks import prediction

        blocks = self.preprocessor.blocks(encoded)
        return prediction.probabilities(prediction.predict(self.network, blocks), self.preprocessor.classes)

    def evaluate(self, raw: pa.Table | RawRows) -> tuple[np.ndarray, np.ndarray]:
        """Raw rows with the target → (targets, network output) of those that can be used.

        Args:
            raw: the source's columns, the target among them; what is read in parts is held a part at a time.

        Example:
            >>> targets, predictions = model.evaluate(dataset.raw_rows())
            >>> predictions.shape == (len(targets), 1) == (dataset.rows["test"], 1)
            True
        """
        found = []
        for part in parts_to_encode(raw, self.preprocessor):
            rows, _, targets = usable(part, self.preprocessor)
            found.append((targets, self.predict(rows)))
        targets, outputs = zip(*found, strict=True)
        return np.concatenate(targets), np.concatenate(outputs)

    def answers(self, raw: pa.Table | RawRows, asked: Preprocessor) -> np.ndarray:
        """Raw rows → output on every one, its columns the classes that `asked` knows.

        A class that this model does not know has the probability 0. Raises `BatonError` if it
        predicts something else or cannot use a row.
        """
        mine, theirs = self.preprocessor, asked
        if (mine.target, bool(mine.classes)) != (theirs.target, bool(theirs.classes)):
            raise BatonError(f"it predicts {mine.target} ({mine.task}), not {theirs.target} ({theirs.task})")
        outputs: list[np.ndarray] = []
        reasons: list[str] = []
        for part in parts_to_encode(raw, self.preprocessor):
            rows, found = typed(part, mine.features, target=None)
            reasons += found.drop_null().to_pylist()
            outputs += [] if reasons else [self.predict(rows)]
        if reasons:
            raise BatonError(f"it cannot use {len(reasons):,} of {raw.num_rows:,} test rows ({reasons[0]})")
        output = np.concatenate(outputs)
        if not theirs.classes:
            return output
        zero = np.zeros(len(output), output.dtype)
        known = dict(zip(mine.classes, output.T, strict=True))
        return np.stack([known.get(name, zero) for name in theirs.classes], axis=1)

    def score(self, raw: pa.Table) -> tuple[dict[str, pa.Array], pa.Array]:
        """Raw rows → (prediction columns, reasons): rows with a reason were not scored, they are null.

        Args:
            raw: the source's columns; the target need not be among them.

        Raises:
            BadInput: names every feature that is missing, or has a type that cannot hold its kind.

        Example:
            >>> columns, reasons = model.score(dataset.raw_example(5))
            >>> list(columns), reasons.null_count
            (['prediction'], 5)
        """
        columns, reasons, _ = self.score_and_count(raw)
        return columns, reasons

    def score_and_count(self, raw: pa.Table) -> tuple[dict[str, pa.Array], pa.Array, Counter[str]]:
        """As `score`, with the number of cells a column, of scored rows, whose category the model does not know."""
        scored = [
            (*self.score_typed(rows, reasons), reasons)
            for rows, reasons in ahead(
                typed(part, self.preprocessor.features, target=None) for part in parts_to_encode(raw, self.preprocessor)
            )
        ]
        columns, unknown, reasons = zip(*scored, strict=True)
        whole = {name: pa.concat_arrays([part[name] for part in columns]) for name in columns[0]}
        return whole, pa.concat_arrays(reasons), sum(unknown, Counter())

    def score_typed(self, rows: pa.Table, reasons: pa.Array) -> tuple[dict[str, pa.Array], Counter[str]]:
        """What `columns.typed` gave → (prediction columns, null where a row has a reason; unknown categories a column).

        Args:
            rows: the features, of all rows.
            reasons: why a row cannot be used, or null.

        Example:
            >>> columns, _ = model.score_typed(rows, pa.nulls(rows.num_rows, pa.string()))
            >>> columns["prediction"].null_count
            0
        """
        good = reasons.is_null()
        encoded = self.preprocessor.encode(rows.filter(good))
        output = self._predict(encoded)
        columns = self.preprocessor.decode_prediction(output)
        if self.interval is not None:
            ends = prediction_intervals.bounds(
                self.preprocessor.spec["target"]["intervals"], output[:, 0].astype(float), self.interval
            )
            named = zip((names.PREDICTION_LOW, names.PREDICTION_HIGH), ends, strict=True)
            columns |= {name: pa.array(values) for name, values in named}
        return {name: _spread(values, good) for name, values in columns.items()}, self.preprocessor.unknown(encoded)


def demand_interval(preprocessor: Preprocessor, level: float | None) -> None:
    """Raise `BadInput` if a model keeps no prediction intervals of that level; None asks for none."""
    kept = preprocessor.spec["target"].get("intervals", {"half_widths": {}})["half_widths"]
    if level is not None and str(level) not in kept:
        raise BadInput(
            f"The model keeps no intervals of level {level}: it was trained before there were any, or with too few "
            "validation rows. Set batch_infer.interval: null. "
            f"Received: a model with the levels {listed(list(kept) or ['none'])}"
        )


def _read(file: str, reader: Callable[[], Any]) -> Any:
    try:
        return reader()
    except Exception as error:
        raise BadInput(f"{file} of the model is damaged, or refused by Keras' safe mode: {error!s:.300}") from error


def _spread(values: pa.Array, good: pa.Array) -> pa.Array:
    """Values of the good rows → an array of all rows, null elsewhere."""
    mask = good.to_numpy(zero_copy_only=False)
    if mask.all():
        return values
    index = np.where(mask, np.cumsum(mask) - 1, 0)
    return values.take(pa.array(index, mask=~mask))
