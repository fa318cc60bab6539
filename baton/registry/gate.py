"""Evidence on test rows in, a verdict with its reasons out. Pure: models and the registry are elsewhere."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from baton.config.schema import Config, Register
from baton.evaluation import bootstrap, metrics

LARGEST_SKEW = 1e-4  # float32 noise is below 1e-6

Check = tuple[bool, str]


@dataclass(frozen=True)
class Champion:
    """The present champion: its loss on each of the candidate's test rows [rows], or the error that it met."""

    version: str
    losses: np.ndarray | None = None
    error: str = ""


@dataclass(frozen=True)
class Evidence:
    """What is judged: a candidate, the trivial predictor and the champion on the same test rows.

    `fingerprints` says whose dataset is which; `skew` is how far the raw-column path is from the
    training path; `rolled_back` says that the same model was champion and why it is no more.
    """

    metrics: dict[str, float]
    trivial: dict[str, float]
    losses: np.ndarray
    skew: float
    fingerprints: dict[str, str] = field(default_factory=dict)
    champion: Champion | None = None
    rolled_back: str = ""


@dataclass(frozen=True)
class Comparison:
    """The primary metric of candidate and champion, and the bootstrap interval of their difference."""

    metric: str
    candidate: float
    champion: float
    champion_version: str
    difference: float
    low: float
    high: float
    confidence: float
    resamples: int
    rows: int

    @property
    def identical(self) -> bool:
        """Whether no resample tells the two apart."""
        return self.difference == self.low == self.high == 0


@dataclass(frozen=True)
class GateDecision:
    """Whether a candidate may be promoted, what was found as sentences, and the comparison in numbers."""

    passed: bool
    reasons: list[str] = field(default_factory=list)
    comparison: Comparison | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def judge(config: Config, evidence: Evidence) -> GateDecision:
    """Evidence → `Judgement`. What cannot be known does not pass."""
    settings, rows = config.register_, len(evidence.losses)
    guards = [_finite(evidence.losses), _same_data(evidence.fingerprints), _never_rolled_back(evidence.rolled_back)]
    checks: list[Check] = [check for check in guards if not check[0]]
    checks += [_enough(rows, settings.min_test_rows), _same_paths(evidence.skew)]
    comparison = None
    if guards[0][0]:
        checks.append(_trivial(config.primary_metric, evidence))
        if evidence.champion is not None:
            comparison, check = _against(config, evidence.losses, evidence.champion)
            checks.append(check)
        checks += [_floor(name, evidence.metrics.get(name), limit) for name, limit in settings.floors.items()]
    return GateDecision(all(good for good, _ in checks), [reason for _, reason in checks], comparison)


def compare(config: Config, losses: np.ndarray, champion: Champion) -> Comparison:
    """Losses of candidate and champion on the same rows → their difference with its interval.

    The percentile interval of the paired bootstrap (Efron and Tibshirani, An Introduction to the
    Bootstrap, chapter 13). Raises `ValueError` if the rows or the numbers are not fit for it.
    """
    if champion.losses is None or champion.losses.shape != losses.shape:
        raise ValueError("it was not scored on the same rows")
    if not np.isfinite(champion.losses).all():
        raise ValueError(f"its loss is not finite on {_share(champion.losses)} test rows")
    settings, metric = config.register_, config.primary_metric
    mine, other = (float(metrics.of_mean_loss(metric, values.mean())) for values in (losses, champion.losses))
    found = differences(metric, losses, champion.losses, settings.resamples, config.seed)
    low, high = bootstrap.interval(found, settings.confidence)
    if not math.isfinite(high - low):
        raise ValueError("their difference is not finite")
    return Comparison(
        metric, mine, other, champion.version, mine - other, low, high,
        settings.confidence, settings.resamples, len(losses),
    )  # fmt: skip


def differences(metric: str, first: np.ndarray, second: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Two models' losses on the same rows → the metric's difference in each resample [resamples].

    Rows are drawn with replacement, the same for both models, as many as there are. Equal losses
    give exactly 0.
    """
    sums = bootstrap.sums((first, second), resamples, np.random.default_rng(seed))
    one, two = metrics.of_mean_loss(metric, sums / len(first))
    return one - two


def skew(encoded: np.ndarray, raw: np.ndarray) -> float:
    """Outputs [rows, k] of the training and of the raw-column path → their distance; inf if rows differ.

    The largest difference of the sorted outputs, as a share of their spread: it is no larger than
    that of row against row, and does not need the rows in the same order.
    """
    if encoded.shape != raw.shape:
        return math.inf
    spread = float(np.std(encoded)) or 1.0
    return float(np.max(np.abs(np.sort(encoded, axis=0) - np.sort(raw, axis=0)))) / spread


def _against(config: Config, losses: np.ndarray, champion: Champion) -> tuple[Comparison | None, Check]:
    """The comparison with the champion and what it means; an error of any kind does not pass."""
    try:
        if champion.error:
            raise ValueError(champion.error)
        comparison = compare(config, losses, champion)
    except Exception as error:  # noqa: BLE001 - whatever it is, the champion stays
        return None, (False, f"the champion, version {champion.version}, cannot be compared with: {error}")
    return comparison, _verdict(config.register_, comparison)


def _verdict(settings: Register, comparison: Comparison) -> Check:
    """Better for sure, or not worse than the tolerance allows for sure, as the policy says."""
    better = settings.policy == "better"
    limit = 0.0 if better else settings.tolerance * comparison.champion
    good = comparison.high < 0 if better else comparison.high <= limit
    measured = f"test {comparison.metric} {comparison.candidate:.6g}"
    if comparison.identical:
        return good, (
            f"{measured} is the champion's own: version {comparison.champion_version} has the same loss on all "
            f"{comparison.rows:,} test rows, so the candidate is not {'better' if better else 'worse'}"
        )
    return good, f"{measured} {_relation(better, good, comparison, settings)}: {_interval_text(comparison)}"


def _relation(better: bool, good: bool, comparison: Comparison, settings: Register) -> str:
    champion = f"the champion's {comparison.champion:.6g}"
    if better:
        verb = "beats" if good else "does not surely beat" if comparison.difference < 0 else "does not beat"
        return f"{verb} {champion}"
    verb = "is not worse than" if good else "may be worse than"
    return f"{verb} {champion} by more than the tolerance of {100 * settings.tolerance:g} %"


def _interval_text(comparison: Comparison) -> str:
    return (
        f"difference {comparison.difference:+.4g}, {100 * comparison.confidence:g} % interval "
        f"[{comparison.low:+.4g}, {comparison.high:+.4g}] of {comparison.rows:,} rows"
    )


def _finite(losses: np.ndarray) -> Check:
    return bool(np.isfinite(losses).all()), f"the predictions are not finite on {_share(losses)} test rows"


def _share(losses: np.ndarray) -> str:
    return f"{np.count_nonzero(~np.isfinite(losses)):,} of {len(losses):,}"


def _same_data(fingerprints: dict[str, str]) -> Check:
    told = ", ".join(f"{whose} {value[:12] or 'unknown'}" for whose, value in fingerprints.items())
    good = len(set(fingerprints.values())) <= 1 and all(fingerprints.values())
    return good, f"the model was not trained on this dataset: the fingerprints are {told}"


def _never_rolled_back(reason: str) -> Check:
    return not reason, reason


def _enough(rows: int, least: int) -> Check:
    good = rows >= least
    return good, f"{rows:,} test rows are {'enough' if good else 'too few'} (register.min_test_rows {least:,})"


def _same_paths(distance: float) -> Check:
    good = distance <= LARGEST_SKEW
    return good, f"raw columns and training rows {'agree' if good else 'disagree'} (distance {distance:.2g})"


def _trivial(metric: str, evidence: Evidence) -> Check:
    value, other = evidence.metrics.get(metric, math.nan), evidence.trivial.get(metric, math.nan)
    good = value < other
    return good, f"test {metric} {value:.6g} {'beats' if good else 'does not beat'} the trivial predictor's {other:.6g}"


def _floor(name: str, value: float | None, limit: float) -> Check:
    if value is None:
        return False, f"register.floors names {name}, which this task does not have"
    good = value <= limit if name in metrics.SMALLER_IS_BETTER else value >= limit
    return good, f"test {name} {value:.6g} {'keeps' if good else 'breaks'} the floor {limit:g}"
