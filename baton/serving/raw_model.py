"""MLflow's "model from code" of a `RawColumnModel`: loading it runs this file, and unpickles nothing."""

from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException

from baton.errors import BadInput
from baton.serving import requests
from baton.serving.layout import DATA
from baton.serving.raw_columns import RawColumnModel


class RawColumns(mlflow.pyfunc.PythonModel):
    """pandas raw columns in, pandas `prediction`, `probability_<class>` and `reason` out.

    A row that cannot be used has a reason and null predictions, any other row has a null reason.
    """

    def load_context(self, context: Any) -> None:
        self.model = RawColumnModel.load(context.artifacts[DATA])
        requests.replace_readers()

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        try:
            rows, reasons = requests.typed_frame(model_input, self.model.preprocessor.features)
        except BadInput as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None  # the server answers with 400
        columns, _ = self.model.score_typed(rows, reasons)
        return requests.predictions(columns, reasons, model_input.index)


mlflow.models.set_model(RawColumns())
