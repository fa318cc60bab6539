"""Test metrics in, a verdict with its reasons out. Pure: the registry is elsewhere."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from baton.config import Config

SMALLER_IS_BETTER = ("rmse", "mae", "log_loss")


@dataclass(frozen=True)
class Judgement:
    """Whether a candidate may be promoted, and every check as a sentence."""

    passed: bool
    reasons: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def judge(
    config: Config,
    candidate: dict[str, float],
    trivial: dict[str, float],
    champion: dict[str, float] | None,
) -> Judgement:
    """Metrics on the same test rows of candidate, trivial predictor and champion → `Judgement`."""
    metric = config.primary_metric
    value = candidate[metric]
    checks = [_compare(metric, value, trivial[metric], 0.0, "the trivial predictor")]
    if champion is not None:
        checks.append(_compare(metric, value, champion[metric], config.register_.tolerance, "the champion"))
    checks += [_floor(name, candidate.get(name), limit) for name, limit in config.register_.floors.items()]
    return Judgement(all(good for good, _ in checks), [reason for _, reason in checks])


def _compare(metric: str, value: float, other: float, tolerance: float, rival: str) -> tuple[bool, str]:
    """Better, or not worse than the tolerance allows; a NaN never passes."""
    good = value < other + tolerance
    verb = "beats" if good else "does not beat"
    slack = f" (tolerance {tolerance:g})" if tolerance else ""
    return good, f"test {metric} {value:.6g} {verb} {rival}'s {other:.6g}{slack}"


def _floor(name: str, value: float | None, limit: float) -> tuple[bool, str]:
    if value is None:
        return False, f"register.floors names {name}, which this task does not have"
    good = value <= limit if name in SMALLER_IS_BETTER else value >= limit
    return good, f"test {name} {value:.6g} {'keeps' if good else 'breaks'} the floor {limit:g}"
