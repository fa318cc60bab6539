"""Who was champion of a registered model, when, why and by which run; and who is next.

MLflow cannot compare and swap an alias: on one machine a lock keeps the look and the move
together, between machines nothing does.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from baton import names
from baton.config.schema import Config
from baton.errors import BadInput, BatonError
from baton.redaction import masked
from baton.registry import history as records
from baton.registry import store, versions
from baton.registry.history import BY_HAND, PROMOTED, ROLLED_BACK, Change
from baton.runtime import locks
from baton.tracking import runs

log = logging.getLogger("baton")


MAX_REASON = 1000  # characters of a reason


@contextmanager
def locked(config: Config, what: str = "registry") -> Iterator[None]:
    """Meanwhile nobody else on this machine moves the aliases of this model out of this warehouse, or does `what`."""
    home = Path(config.warehouse) / config.name
    home.mkdir(parents=True, exist_ok=True)
    with locks.exclusive(home / f"{what}.lock"):
        yield


def history(name: str) -> list[Change]:
    """All changes of the champion, oldest first; the last one as found, if no step recorded it."""
    recorded = records.recorded(name)
    return recorded + _unrecorded(name, recorded)


def current(name: str) -> str | None:
    """The version number of the champion, or None."""
    found = versions.champion(name)
    return None if found is None else str(found.version)


def promote(config: Config, number: str, judged_against: str | None, by: str, why: str) -> str | None:
    """Make a version champion, if the champion is still who it was judged against; else say why not.

    To be called inside `locked`.
    """
    name = config.registered_model
    now = current(name)
    if now not in (judged_against, number):  # itself, if whoever gave it the alias was interrupted then
        return (
            f"the champion changed from {_who(judged_against)} to {_who(now)} meanwhile and was left alone; "
            "run register again to be judged against it"
        )
    if by_hand := put_aside(name, number):
        return by_hand
    _move(config, name, number, PROMOTED, by, why)
    return None


def put_aside(name: str, number: str) -> str:
    """Why a version is not for a step to promote: a person has taken `champion` from its model; empty if nobody has.

    The model, not the version, is what was decided on: the next training gives the same one a new number. Whoever
    makes it champion again, by hand or by a rollback, lifts that.
    """
    networks = {str(found.version): versions.network_of(found.tags) for found in versions.versions(name)}
    why = _taken_by_hand(history(name), networks).get(networks.get(number, ""))
    return "" if why is None else (
        f"the same model was champion as {why}, and that is left so: "
        f"give version {number} the alias {names.CHAMPION} by hand to lift it"
    )  # fmt: skip


def _taken_by_hand(changes: list[Change], networks: dict[str, str]) -> dict[str, str]:
    """Changes, oldest first, and the networks of the versions that are there → {network: who it was and what ended it}
    of those that a person has taken away and nobody has made champion since."""
    taken: dict[str, str] = {}
    latest: dict[str, str] = {}
    last = ""
    for change in changes:
        network = change.network or networks.get(change.version or "", "")
        if change.how == BY_HAND and last:
            after = f"{_who(change.version)} was made champion" if change.version else "the alias was taken away"
            taken[last] = f"version {change.previous} until {after} by hand"
        taken.pop(network, None)
        latest[network] = change.version or ""
        last = network
    taken |= {n: f"version {number}, which was deleted" for n, number in latest.items() if number not in networks}
    taken.pop("", None)
    return taken


def record_by_hand(config: Config, by: str) -> Change | None:
    """Record the change that was made past the steps, if there was one, as found by the run `by`, or by none.

    Returns the change by hand that the champion, or that there is none, comes of, whoever recorded it; or None.
    """
    name = config.scoring_model
    with locked(config):
        recorded = records.recorded(name)
        recorded += [records.append(config, name, replace(found, by=by)) for found in _unrecorded(name, recorded)]
    return recorded[-1] if recorded and recorded[-1].how == BY_HAND else None


def change_to(version: Any) -> Change | None:
    """The change that made a version champion, if it is; None if it is not."""
    last = next(reversed(history(version.name)), None)
    return last if last is not None and last.version == str(version.version) else None


def mark(config: Config, version: Any) -> None:
    """Let a version that is to score tell of its time as champion, if it is champion; as often as need be."""
    with locked(config):
        if (change := change_to(version)) is not None:
            _mark(version.name, change)


def roll_back(config: Config, by: str, why: str) -> Change:
    """Make the previous champion champion again; raises `BadInput` if there is none or no reason."""
    if not why.strip():
        raise BadInput("reason is missing: say why the champion is taken back.")
    store.check_names(config)
    name = config.scoring_model
    with locked(config):
        left = current(name)
        targets = [number for number in returns(history(name)) if _is_whole(name, number)]
        if not targets:
            raise BadInput(f"Model {name} has no previous champion. Received: {_who(left)} as the present one")
        reason = masked(why.strip())[:MAX_REASON]
        if left is not None:  # before the alias moves: from then on nobody may take it for a version that scores
            store.tag(versions.version(name, left), {names.TAG_ROLLED_BACK: reason})
        return _move(config, name, targets[0], ROLLED_BACK, by, reason)


def returns(changes: list[Change]) -> list[str]:
    """Changes, oldest first → the versions that a rollback may go back to, nearest first.

    As with undo: a change puts its version on a pile, a rollback takes the top away. So a second
    rollback goes on to the one before, and never back to what was taken away.
    """
    pile: list[str | None] = []
    for change in changes:
        if change.how == ROLLED_BACK:
            del pile[-1:]
            while pile and pile[-1] != change.version:
                pile.pop()
        if change.how != ROLLED_BACK or not pile:  # a rollback whose past is forgotten starts anew
            pile.append(change.version)
    return [version for version in reversed(pile[:-1]) if version not in (None, pile[-1])]


def _move(config: Config, name: str, number: str, how: str, by: str, why: str) -> Change:
    """Record what nobody recorded, give a version the alias, record that; go on where that was interrupted."""
    recorded = records.recorded(name)
    if how == PROMOTED and recorded and current(name) == number == recorded[-1].version:
        _mark(name, recorded[-1])
        return recorded[-1]
    for found in _unrecorded(name, recorded):
        if how != PROMOTED or found.version != number:
            recorded.append(records.append(config, name, found))
    last = recorded[-1] if recorded else None
    previous, network = last.version if last else None, _network(name, number)
    change = Change(last.number + 1 if last else 1, number, previous, how, runs.now(), by, why[:MAX_REASON], network)
    _lift(name, number)  # before it bears the alias: from then on it scores
    versions.set_alias(name, names.CHAMPION, number)
    records.append(config, name, change)
    _mark(name, change)
    return change


def _mark(name: str, change: Change) -> None:
    """What a version tells of its latest time as champion."""
    tags = {
        names.TAG_PREVIOUS_CHAMPION: change.previous or "",
        names.TAG_CHAMPION_SINCE: change.at,
        names.TAG_CHAMPION_BY: change.by,
        names.TAG_CHAMPION_WHY: change.why,
    }
    store.tag(versions.version(name, str(change.version)), tags)


def _lift(name: str, number: str) -> None:
    """A version that a step makes champion is rolled back no more."""
    version = versions.version(name, number)
    if names.TAG_ROLLED_BACK in version.tags:
        store.untag(version, names.TAG_ROLLED_BACK)


def _unrecorded(name: str, recorded: list[Change]) -> list[Change]:
    """The change that was made past the steps, as found now, if there was one."""
    now, last = current(name), recorded[-1] if recorded else None
    before = last.version if last else None
    if now == before:
        return []
    network = "" if now is None else _network(name, now)
    why = "found in the registry"
    return [Change(last.number + 1 if last else 1, now, before, BY_HAND, runs.now(), "", why, network)]


def _network(name: str, number: str) -> str:
    return versions.network_of(versions.version(name, number).tags)


def _is_whole(name: str, number: str) -> bool:
    """Whether a version is still there with its model; says so if it is not."""
    try:
        versions.version(name, number)
        versions.demand_model(f"models:/{name}/{number}")
    except BatonError as error:
        log.warning("version %s of %s is passed over: %s", number, name, runs.sentence(error))
        return False
    return True


def _who(version: str | None) -> str:
    return "nobody" if version is None else f"version {version}"
