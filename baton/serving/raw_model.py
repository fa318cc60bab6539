"""MLflow's "model from code" of a `RawColumnModel`: loading it runs this file, and unpickles nothing."""

from typing import Any

import mlflow
import pandas as pd
import pyarrow as pa

from baton.serving.layout import DATA
from baton.serving.raw_columns import RawColumnModel


class RawColumns(mlflow.pyfunc.PythonModel):
    """pandas raw columns in, pandas `prediction` (and `probability_<class>`) out; unusable rows are null."""

    def load_context(self, context: Any) -> None:
        self.model = RawColumnModel.load(context.artifacts[DATA])

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        columns, _ = self.model.score(pa.Table.from_pandas(model_input, preserve_index=False))
        return pa.table(columns).to_pandas()


mlflow.models.set_model(RawColumns())
