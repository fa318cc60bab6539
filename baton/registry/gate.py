"""Evidence on test rows in, a verdict with its reasons out. Pure: models and the registry are elsewhere."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from baton.config.schema import Config, Register
from baton.errors import listed
from baton.evaluation import differences, metrics
from baton.evaluation.differences import Difference
from baton.formatting import confidence_text
from baton.registry.looks import Look, Sketch

LARGEST_SKEW = 1e-4  # float32 noise is below 1e-6
CHANCE = 0.5  # the roc_auc of who guesses

Check = tuple[bool, str]


@dataclass(frozen=True)
class NewClasses:
    """Classes that a candidate knows and the champion does not: the test rows of them, and the candidate there."""

    names: tuple[str, ...]
    rows: int
    log_loss: float
    hits: int


@dataclass(frozen=True)
class Overlap:
    """How many of a candidate's test rows the champion's own splits have in train, in validation, and in test."""

    train: int
    validation: int
    test: int

    @property
    def rows(self) -> int:
        return self.train + self.validation + self.test


@dataclass(frozen=True)
class Champion:
    """The present champion: its loss on each of the candidate's test rows [rows], or the error that it met.

    Where the two know different classes, or were split otherwise, `losses` and `candidate` are theirs on the rows whose
    class both know and that are test rows of both, and `new` and `overlap` tell of the others. Without `overlap` it is
    not known which rows the champion has learnt from. `same_network` says that both answer by the
    same network, and `other_data` that what travels with it differs.
    """

    version: str
    losses: np.ndarray | None = None
    error: str = ""
    candidate: np.ndarray | None = None
    new: NewClasses | None = None
    overlap: Overlap | None = None
    same_network: bool = False
    other_data: bool = False


@dataclass(frozen=True)
class Evidence:
    """What is judged: a candidate, the trivial predictor and the champion on the same test rows.

    `trivial` is the trivial predictor's loss on each row [rows]. `fingerprints` says whose dataset is
    which; `skew` is how far the raw-column path is from the training path; `rolled_back` says that the
    same model was champion and why it is no more. `looks` counts the models that were asked about these
    rows, this one included, by the rows' `sketch`; `classes` has the test rows of each class, none for
    regression; `auc` is the interval of roc_auc, where there is one.
    """

    metrics: dict[str, float]
    trivial: np.ndarray
    losses: np.ndarray
    skew: float
    fingerprints: dict[str, str] = field(default_factory=dict)
    champion: Champion | None = None
    rolled_back: str = ""
    looks: int = 1
    sketch: Sketch | None = None
    classes: dict[str, int] = field(default_factory=dict)
    auc: list[float] | None = None


@dataclass(frozen=True)
class Comparison:
    """The primary metric of candidate and champion on the same rows, and the interval of their difference."""

    metric: str
    candidate: float
    champion: float
    champion_version: str
    difference: float
    low: float
    high: float
    confidence: float
    rows: int

    @property
    def identical(self) -> bool:
        """Whether no row tells the two apart."""
        return self.difference == self.low == self.high == 0


@dataclass(frozen=True)
class GateDecision:
    """Whether a candidate may be promoted, what was found as sentences, the look, and the comparison in numbers."""

    passed: bool
    reasons: list[str] = field(default_factory=list)
    comparison: Comparison | None = None
    look: Look = Look()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def judge(config: Config, evidence: Evidence) -> GateDecision:
    """Evidence → `GateDecision`. What cannot be known does not pass."""
    settings, rows = config.register_, len(evidence.losses)
    look = Look(evidence.looks, settings.confidence)
    checks = _refused(
        _finite(evidence.losses),
        _same_data(evidence.fingerprints),
        _never_rolled_back(evidence.rolled_back),
        _several_classes(evidence.classes),
        _numbers(evidence.metrics),
        _not_below_chance(evidence),
    )
    checks += [_enough(rows, settings.min_test_rows), _same_paths(evidence.skew)]
    checks += [_look(look)] if look.number > 1 else []
    comparison = None
    if _finite(evidence.losses)[0]:
        checks.append(_trivial(config.primary_metric, evidence, look))
        if evidence.champion is not None:
            comparison, compared = _against(config, evidence.losses, evidence.champion, look)
            checks += compared
        checks += [_floor(name, evidence.metrics.get(name), limit) for name, limit in settings.floors.items()]
    return GateDecision(all(good for good, _ in checks), [reason for _, reason in checks], comparison, look)


def compare(config: Config, losses: np.ndarray, champion: Champion, look: Look) -> Comparison:
    """Losses of candidate and champion on the same rows → their difference with the interval of this look.

    Raises `ValueError` if the rows or the numbers are not fit for it.
    """
    mine = losses if champion.candidate is None else champion.candidate
    if champion.losses is None or champion.losses.shape != mine.shape:
        raise ValueError("it was not scored on the same rows")
    if len(mine) < min(len(losses), config.register_.min_test_rows):
        raise ValueError(f"only {len(mine):,} test rows are of a class that both know")
    if not np.isfinite(champion.losses).all():
        raise ValueError(f"its loss is not finite on {_share(champion.losses)} test rows")
    metric = config.primary_metric
    found = differences.paired(metric, mine, champion.losses, look.tail)
    if not found.is_finite:
        raise ValueError("their difference is not finite")
    return Comparison(
        metric, _metric(metric, mine), _metric(metric, champion.losses), champion.version,
        found.value, found.low, found.high, look.level, len(mine),
    )  # fmt: skip


def skew(encoded: np.ndarray, raw: np.ndarray) -> float:
    """Outputs [rows, k] of the training and of the raw-column path → their distance; inf if rows differ.

    The largest difference of the sorted outputs, as a share of their spread: it is no larger than
    that of row against row, and does not need the rows in the same order.
    """
    if encoded.shape != raw.shape:
        return math.inf
    spread = float(np.std(encoded)) or 1.0
    return float(np.max(np.abs(np.sort(encoded, axis=0) - np.sort(raw, axis=0)))) / spread


def _against(
    config: Config, losses: np.ndarray, champion: Champion, look: Look
) -> tuple[Comparison | None, list[Check]]:
    """The comparison with the champion and what it means; an error of any kind does not pass."""
    notes = _overlap(champion)
    notes += [] if champion.new is None else [_new_classes(champion.new, champion.version)]
    if champion.error and champion.same_network:
        return None, [*notes, _mends(champion)]
    try:
        if champion.error:
            raise ValueError(champion.error)
        comparison = compare(config, losses, champion, look)
    except Exception as error:  # noqa: BLE001 - whatever it is, the champion stays
        why = f"the champion, version {champion.version}, cannot be compared with: {error}"
        return None, [*notes, (False, why)]
    if comparison.identical and champion.same_network and champion.other_data:
        return comparison, [*notes, _renews(comparison)]
    return comparison, [*notes, _verdict(config.register_, comparison)]


def _overlap(champion: Champion) -> list[Check]:
    """A note of what the champion may have learnt from; none where its test rows are the candidate's."""
    whose, overlap = f"the champion, version {champion.version}", champion.overlap
    if champion.error:
        return []
    if overlap is None:
        return [(True, f"{whose}, keeps no record of its splits: how many test rows it has learnt from is unknown")]
    if overlap.test == overlap.rows:
        return []
    return [(
        True,
        f"{whose}, was split otherwise: of {overlap.rows:,} test rows {overlap.train:,} would be its train rows and "
        f"{overlap.validation:,} its validation rows; judged are the {overlap.test:,} that are test rows of both",
    )]  # fmt: skip


def _new_classes(new: NewClasses, version: str) -> Check:
    """A note, which refuses nothing: nobody can be better than who was never asked."""
    return True, (
        f"{new.rows:,} test rows are of classes that the champion, version {version}, does not know "
        f"({listed(list(new.names))}) and are left out of the comparison: on them the candidate's log_loss is "
        f"{new.log_loss:.6g}, and {new.hits:,} are classified rightly"
    )


def _renews(comparison: Comparison) -> Check:
    """The same network that carries other data takes its own place under any policy: no answer changes by it."""
    return True, (
        f"the candidate is the champion, version {comparison.champion_version}, itself, with the same loss on all "
        f"{comparison.rows:,} test rows; what travels with it differs, so it takes that version's place"
    )


def _mends(champion: Champion) -> Check:
    """The same network takes the place of its own version that can be used no more."""
    return True, (
        f"the candidate is the champion, version {champion.version}, itself, which can be used no more "
        f"({champion.error}), so it takes that version's place"
    )


def _verdict(settings: Register, comparison: Comparison) -> Check:
    """Better for sure, or not worse than the tolerance allows for sure, as the policy says."""
    better = settings.policy == "better"
    good = comparison.high < 0 if better else comparison.high <= settings.tolerance * comparison.champion
    measured = f"test {comparison.metric} {comparison.candidate:.6g}"
    if comparison.identical:
        return good, (
            f"{measured} is the champion's own: version {comparison.champion_version} has the same loss on all "
            f"{comparison.rows:,} test rows, so the candidate is not {'better' if better else 'worse'}"
        )
    found = Difference(comparison.difference, comparison.low, comparison.high)
    interval = _interval_text(found, comparison.confidence, comparison.rows)
    return good, f"{measured} {_relation(better, good, comparison, settings)}: {interval}"


def _relation(better: bool, good: bool, comparison: Comparison, settings: Register) -> str:
    champion = f"the champion's {comparison.champion:.6g}"
    if better:
        verb = "beats" if good else "does not surely beat" if comparison.difference < 0 else "does not beat"
        return f"{verb} {champion}"
    verb = "is not worse than" if good else "may be worse than"
    return f"{verb} {champion} by more than the tolerance of {100 * settings.tolerance:g} %"


def _interval_text(difference: Difference, level: float, rows: int) -> str:
    interval = f"{confidence_text(level)} interval [{difference.low:+.4g}, {difference.high:+.4g}]"
    return f"difference {difference.value:+.4g}, {interval} of {rows:,} rows"


def _metric(metric: str, losses: np.ndarray) -> float:
    return float(metrics.of_mean_loss(metric, losses.mean()))


def _refused(*checks: Check) -> list[Check]:
    """Those that are only told where they fail."""
    return [check for check in checks if not check[0]]


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


def _several_classes(classes: dict[str, int]) -> Check:
    there = [name for name, rows in classes.items() if rows]
    only = f"all test rows are of the class {there[0]}" if there else "there is no test row"
    return not classes or len(there) > 1, f"{only}: whether a model tells classes apart cannot be seen on them"


def _numbers(values: dict[str, float]) -> Check:
    lacking = [name for name, value in values.items() if not math.isfinite(value)]
    return not lacking, f"test {listed(lacking)} cannot be computed of these rows" if lacking else ""


def _not_below_chance(evidence: Evidence) -> Check:
    low, high = evidence.auc or (0.0, 1.0)
    value = evidence.metrics.get("roc_auc", math.nan)
    return high >= CHANCE, (
        f"test roc_auc {value:.6g} is surely below chance ({CHANCE:g}), interval [{low:.4g}, {high:.4g}]: the model "
        "ranks rows the wrong way round"
    )


def _look(look: Look) -> Check:
    allowed, left = (f"{100 * share:.3g} %" for share in (1 - look.confidence, look.left))
    return True, (
        f"{look.number:,} models have been asked about these test rows, this one included: its intervals are of "
        f"{confidence_text(look.level)}, and of the error of {allowed} that all looks together may have {left} are left"
    )


def _enough(rows: int, least: int) -> Check:
    good = rows >= least
    return good, f"{rows:,} test rows are {'enough' if good else 'too few'} (register.min_test_rows {least:,})"


def _same_paths(distance: float) -> Check:
    good = distance <= LARGEST_SKEW
    return good, f"raw columns and training rows {'agree' if good else 'disagree'} (distance {distance:.2g})"


def _trivial(metric: str, evidence: Evidence, look: Look) -> Check:
    found = differences.paired(metric, evidence.losses, evidence.trivial, look.tail)
    value, other = _metric(metric, evidence.losses), _metric(metric, evidence.trivial)
    good = found.high < 0
    verb = "beats" if good else "does not surely beat" if found.value < 0 else "does not beat"
    interval = _interval_text(found, look.level, len(evidence.losses))
    return good, f"test {metric} {value:.6g} {verb} the trivial predictor's {other:.6g}: {interval}"


def _floor(name: str, value: float | None, limit: float) -> Check:
    if value is None:
        return False, f"register.floors names {name}, which this task does not have"
    good = value <= limit if name in metrics.SMALLER_IS_BETTER else value >= limit
    return good, f"test {name} {value:.6g} {'keeps' if good else 'breaks'} the floor {limit:g}"
