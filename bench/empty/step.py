"""A step that does nothing but import what it needs, and log in its run."""

import importlib
import sys

import mlflow

if __name__ == "__main__":
    importlib.import_module(sys.argv[1])
    with mlflow.start_run():
        mlflow.log_param("done", "yes")
