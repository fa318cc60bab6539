"""MLflow runs and whether the servers behind them answer."""
