"""Six empty steps by `mlflow.projects.run`, as MLflow's own multi-step example starts its steps."""

import sys

import mlflow

STEPS = ("ingest", "train", "tune", "distributed_train", "register", "batch_infer")
WITH_TENSORFLOW = STEPS[1:]

if __name__ == "__main__":
    with mlflow.start_run():
        for name in STEPS:
            needs = "tensorflow" if sys.argv[1] == "yes" and name in WITH_TENSORFLOW else "mlflow"
            mlflow.projects.run(".", "step", parameters={"imports": needs}, env_manager="local", synchronous=True)
