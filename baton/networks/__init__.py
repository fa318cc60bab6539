"""Networks as data: building, layers, optimizers, prediction."""
