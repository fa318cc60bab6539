"""What a target means in numbers: how a class is decided, how near to 0 what is above it comes, and what is."""

from __future__ import annotations

import numpy as np

EPSILON = 1e-7  # probabilities are kept this far from 0 and 1, as Keras does; predictions of deviances from 0
# Losses of targets that are not below 0 → the power of the mean that their variance goes with (Tweedie's family).
POWERS = {"poisson": 1.0, "tweedie": 1.5, "gamma": 2.0}
LOG_SQUARED = "log_squared"  # squared error of the logarithm
LOG_LINKED = (*POWERS, LOG_SQUARED)  # losses of a logarithmic link: every prediction is above 0
DEFAULT_THRESHOLD = 0.5  # the threshold at which the likelier of two classes is predicted


def decide(probabilities: np.ndarray, threshold: float = DEFAULT_THRESHOLD) -> np.ndarray:
    """Class probabilities [rows, k] → the class predicted for each row [rows].

    The likeliest one; of two classes the second where its probability is above `threshold`.
    """
    if probabilities.shape[1] == 2 and threshold != DEFAULT_THRESHOLD:
        return (probabilities[:, 1] > threshold).astype(np.int64)
    return probabilities.argmax(axis=1)
