"""Two samples' counts or values in, how far apart they are out: PSI, Kolmogorov–Smirnov, chi-square. Pure NumPy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

BINS = 10  # of a number's PSI: the reference's deciles


@dataclass(frozen=True)
class Distance:
    """A statistic (`ks` or `chi2`), its value, its p-value, and how large it is whatever the rows (0 to 1)."""

    statistic: str
    value: float
    p_value: float
    effect: float


def psi(reference: np.ndarray, now: np.ndarray) -> float:
    """Counts a bin of both → the population stability index, Σ (q - p) ln(q / p).

    Half a row is added to each bin, for an empty one would make it infinite.
    """
    if len(reference) < 2 or not reference.sum() or not now.sum():
        return 0.0
    p, q = ((counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (reference, now))
    return float(np.sum((q - p) * np.log(q / p)))


def chance_psi(reference_rows: int, rows: int, bins: int) -> float:
    """The PSI that two samples of one distribution have by chance: its expectation, (bins - 1)(1/n + 1/m)."""
    return (bins - 1) * (1 / max(reference_rows, 1) + 1 / max(rows, 1))


def binned(knots: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The reference's quantiles (sorted) and values → (share of the reference, values) in each bin between deciles.

    Equal deciles are one: a column of few distinct numbers has fewer bins.
    """
    edges = np.unique(np.quantile(knots, np.linspace(0, 1, BINS + 1)[1:-1], method="inverted_cdf"))
    bins = len(edges) + 1
    shares, counts = (np.bincount(np.searchsorted(edges, part), minlength=bins) for part in (knots, values))
    return shares / len(knots), counts


def kolmogorov_smirnov(knots: np.ndarray, reference_rows: int, values: np.ndarray) -> Distance:
    """The reference's quantiles (sorted), the rows they stand for, and values → the largest distance of the two
    distribution functions, with Kolmogorov's asymptotic p-value (conservative where values are tied)."""
    from scipy.special import kolmogorov

    values = np.sort(values)
    places = np.unique(np.concatenate([knots, values]))
    one, other = (np.searchsorted(part, places, "right") / len(part) for part in (knots, values))
    largest = float(np.max(np.abs(one - other)))
    rows = reference_rows * len(values) / (reference_rows + len(values))
    # The quantiles stand for the reference to within one step of theirs.
    certain = max(0.0, largest - 1 / len(knots)) if reference_rows > len(knots) else largest
    return Distance("ks", largest, float(kolmogorov(math.sqrt(rows) * certain)), largest)


def chi_square(reference: np.ndarray, now: np.ndarray) -> Distance:
    """Counts a category of both → Pearson's chi-square of the two, with Cramér's V as its effect."""
    from scipy.stats import chi2_contingency

    table = np.stack([reference, now]).astype(float)
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2 or not table.sum(axis=1).all():
        return Distance("chi2", 0.0, 1.0, 0.0)
    compared = chi2_contingency(table, correction=False)
    return Distance("chi2", compared.statistic, compared.pvalue, math.sqrt(compared.statistic / table.sum()))


def share_z(first: int, first_rows: int, second: int, second_rows: int) -> float:
    """How many standard errors the second share lies above the first (pooled two-proportion test); 0 without rows."""
    if not first_rows or not second_rows:
        return 0.0
    pooled = (first + second) / (first_rows + second_rows)
    error = math.sqrt(pooled * (1 - pooled) * (1 / first_rows + 1 / second_rows))
    return (second / second_rows - first / first_rows) / error if error else 0.0


def auc(negative: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    """Scores of two groups → (area under the ROC curve, its standard error by DeLong et al., 1988)."""
    from scipy.stats import rankdata

    scores = np.concatenate([negative, positive])
    whole, low, high = (rankdata(part) for part in (scores, negative, positive))
    n, m = len(negative), len(positive)
    area = (whole[n:].sum() / m - (m + 1) / 2) / n
    v_positive, v_negative = (whole[n:] - high) / n, 1 - (whole[:n] - low) / m
    return float(area), math.sqrt(v_positive.var(ddof=1) / m + v_negative.var(ddof=1) / n)
