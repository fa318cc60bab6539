"""How far new data has drifted from the data that a model was trained on."""
