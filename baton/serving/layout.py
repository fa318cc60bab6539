"""What a logged model's files are called, and which packages serve it."""

from __future__ import annotations

READS = ("baton/serving/raw_model.py",)  # run by MLflow, not imported
ENTRY_FILE = READS[0]
ENTRY = "raw_model.py"  # what it is called in a model
KERAS_FILE = "network.keras"
DATA = "model"  # the name under which the data is logged, and of the folder it lies in
# What a server of the model needs.
PACKAGES = ["mlflow", "tensorflow-cpu", "keras", "numpy", "pandas", "pyarrow", "pydantic", "pyyaml", "scipy", "pillow"]
