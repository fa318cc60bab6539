"""The search for hyperparameters: Hyperopt proposes, workers try."""
