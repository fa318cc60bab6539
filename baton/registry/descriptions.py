"""A model version and what is on record of it in, Markdown that a person can decide by out; and into the registry's UI.

What people have written above Baton's own part stays.
"""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from typing import Any

from baton import names
from baton.config.schema import Config
from baton.errors import BatonError, listed
from baton.evaluation import slices
from baton.formatting import day_text, number_text, span_text
from baton.registry import store, versions
from baton.tracking import runs

log = logging.getLogger("baton")

OWN = "*Below is Baton's part, which it keeps current.*"
EARLIER = re.compile(r"(promoted|challenger|refused): ")  # what Baton alone wrote before
MAX_LENGTH = 5000
SCORES = {
    names.PROMOTED: "It may score.",
    names.CHALLENGER: "It may score, once it bears the alias.",
    names.REFUSED: "It may not score.",
}


def refresh(config: Config, name: str, number: str) -> None:
    """Write the descriptions of a version and, if it is champion, of its model; a step does not fail by it."""
    try:
        version = versions.version(name, number)
        described = of_version(config, version, _columns(version), _register_run(version))
        store.describe(version, lambda before: merged(before, described))
        if (champion := versions.champion(name)) is not None and champion.version == number:
            store.describe_model(name, lambda before: merged(before, of_model(config, version, described)))
    except Exception as error:
        log.exception("the description of version %s of %s could not be written: %s", number, name, error)


def merged(before: str, described: str) -> str:
    """A description as it is, and Baton's part anew → both, the part at the end."""
    above = before.partition(OWN)[0].strip()
    above = "" if EARLIER.match(above) else above
    return "\n\n".join(filter(None, [above, OWN, described]))[:MAX_LENGTH]


def of_version(config: Config, version: Any, columns: list[str], run: Any | None) -> str:
    """A version, the columns that its model takes and its register run, if it is there → Markdown."""
    tags = version.tags
    assessed, verdict = _artifact(run, names.ASSESSMENT).get("test") or {}, _artifact(run, names.VERDICT)
    parts = [
        _verdict(tags),
        _purpose(config, tags, columns),
        _metrics(tags, assessed, verdict.get("comparison") or {}),
        f"**Slices:** {_slices(config, assessed)}" if assessed else "",
        f"**Drift at the last scoring:** {tags.get(names.TAG_DRIFT, 'none was measured yet')}",
        _ways(config, version),
        _links(run, tags),
    ]
    return "\n\n".join(filter(None, parts))


def of_model(config: Config, version: Any, described: str) -> str:
    """A registered model's champion and its description → Markdown."""
    return f"Champion is **version {version.version}**, since {_day(version.tags)}.\n\n{described}"


def _verdict(tags: dict[str, str]) -> str:
    verdict = tags.get(names.TAG_VERDICT, "")
    reasons = "\n".join(f"- {_plain(reason)}" for reason in tags.get(names.TAG_REASONS, "").split("; ") if reason)
    told = f"**{verdict or 'Not judged'}.** {SCORES.get(verdict, 'No gate has judged it.')}"
    if why := tags.get(names.TAG_ROLLED_BACK):
        told += f" It was rolled back: {_plain(why)}"
    return f"{told}\n\n{reasons}" if reasons else told


def _purpose(config: Config, tags: dict[str, str], columns: list[str]) -> str:
    data, fingerprint = config.data, tags.get(names.TAG_FINGERPRINT, "")[:12]
    given = f" from {len(columns)} columns ({_plain(listed(columns, 12))})" if columns else ""
    task, dataset = f"{_plain(data.target)} ({data.task})", fingerprint or "unknown"
    known = f"\n\n**Data:** {_plain(tags[names.TAG_DATA])}." if names.TAG_DATA in tags else ""
    return f"**Predicts** {task}{given}; trained on the dataset {dataset}.{known}"


def _metrics(tags: dict[str, str], assessed: dict[str, Any], comparison: dict[str, Any]) -> str:
    """The metrics on test rows, their intervals, and the champion's where it was compared by them."""
    values = {key.removeprefix("test_"): float(v) for key, v in tags.items() if key.startswith("test_")}
    if not values:
        return ""
    champion = [f"version {comparison['champion_version']}"] if comparison else []
    rows = [
        ["metric on test rows", "value", "interval", *champion],
        ["---", "---:", "---", *["---:" for _ in champion]],
    ]
    for metric, value in values.items():
        span = span_text((assessed.get("intervals") or {}).get(metric))
        other = number_text(comparison["champion"]) if comparison.get("metric") == metric else ""
        rows.append([metric, number_text(value), span, *[other for _ in champion]])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _slices(config: Config, assessed: dict[str, Any]) -> str:
    metric = config.primary_metric
    return _plain(slices.log_line(assessed.get("slices") or [], metric, assessed["metrics"][metric]))


def _ways(config: Config, version: Any) -> str:
    alias = config.batch_infer.alias if config.batch_infer else names.CHAMPION
    return (
        f"**To promote:** give version {version.version} the alias `{alias}` beside *Aliases*; `reconcile` then scores "
        'with it. **To roll back:** `python -m steps.rollback --config=... --set= --reason="..."`.'
    )


def _links(run: Any | None, tags: dict[str, str]) -> str:
    if run is None:
        return ""
    commit = tags.get(names.TAG_COMMIT, "unknown")[:12]
    day = day_text(run.info.start_time * 1000)
    place = f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    return f"[The run that registered it, with its card and figures]({place}), of {day}; commit {commit}."


def _plain(text: str) -> str:
    """Text that data or people may have written → the same in Markdown, where it draws nothing."""
    return re.sub(r"([\\`*_{}\[\]<>#|!])", r"\\\1", text)


def _day(tags: dict[str, str]) -> str:
    return tags.get(names.TAG_CHAMPION_SINCE, "unknown")[:10]


def _columns(version: Any) -> list[str]:
    """The raw columns that a version's model takes; none if it tells none."""
    import mlflow

    with suppress(Exception):  # its files may be gone
        found = mlflow.models.get_model_info(f"models:/{version.name}/{version.version}").metadata or {}
        return list(found.get("columns") or ())
    return []


def _register_run(version: Any) -> Any | None:
    run_id = version.tags.get(names.TAG_REGISTER_RUN)
    return runs.find(run_id) if run_id else None


def _artifact(run: Any | None, name: str) -> dict[str, Any]:
    with suppress(BatonError, ValueError):
        return runs.artifact(run, name) if run else {}
    return {}
