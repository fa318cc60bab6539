"""Who was champion of a registered model, when, why and by which run; and who is next.

Each change is a tag of the registered model, numbered, so that no change overwrites another one's
record. MLflow cannot compare and swap an alias: on one machine a lock keeps the look and the move
together, between machines nothing does.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from baton import names
from baton.config.schema import Config
from baton.errors import BadInput, BatonError
from baton.redaction import masked
from baton.registry import versions
from baton.runtime import locks
from baton.tracking import runs

log = logging.getLogger("baton")


PROMOTED, ROLLED_BACK, BY_HAND = "promoted", "rolled back", "set by hand"
KEPT = 500  # changes; older ones are forgotten
MAX_REASON = 1000  # characters of a reason; a tag holds 5,000


@dataclass(frozen=True)
class Change:
    """One change of the champion: to which version (None: nobody), how, when, by which run, why.

    `network` is what that version answers by: it is known when the version is deleted, too.
    """

    number: int
    version: str | None
    previous: str | None
    how: str
    at: str
    by: str
    why: str
    network: str = ""


@contextmanager
def locked(config: Config) -> Iterator[None]:
    """Meanwhile nobody else on this machine moves the aliases of this model out of this warehouse."""
    home = Path(config.warehouse) / config.name
    home.mkdir(parents=True, exist_ok=True)
    with locks.exclusive(home / "registry.lock"):
        yield


def history(name: str) -> list[Change]:
    """All changes of the champion, oldest first; the last one as found, if no step recorded it."""
    recorded = _recorded(name)
    return recorded + _unrecorded(name, recorded)


def current(name: str) -> str | None:
    """The version number of the champion, or None."""
    found = versions.champion(name)
    return None if found is None else str(found.version)


def promote(name: str, number: str, judged_against: str | None, by: str, why: str) -> str | None:
    """Make a version champion, if the champion is still who it was judged against; else say why not.

    To be called inside `locked`.
    """
    now = current(name)
    if now not in (judged_against, number):  # itself, if whoever gave it the alias was interrupted then
        return (
            f"the champion changed from {_who(judged_against)} to {_who(now)} meanwhile and was left alone; "
            "run register again to be judged against it"
        )
    if by_hand := put_aside(name, number):
        return by_hand
    _move(name, number, PROMOTED, by, why)
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


def roll_back(config: Config, by: str, why: str) -> Change:
    """Make the previous champion champion again; raises `BadInput` if there is none or no reason."""
    if not why.strip():
        raise BadInput("reason is missing: say why the champion is taken back.")
    with locked(config):
        left = current(config.name)
        targets = [number for number in returns(history(config.name)) if _is_whole(config.name, number)]
        if not targets:
            raise BadInput(f"Model {config.name} has no previous champion. Received: {_who(left)} as the present one")
        reason = masked(why.strip())[:MAX_REASON]
        if left is not None:  # before the alias moves: from then on nobody may take it for a version that scores
            runs.client().set_model_version_tag(config.name, left, names.TAG_ROLLED_BACK, reason)
        return _move(config.name, targets[0], ROLLED_BACK, by, reason)


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


def _move(name: str, number: str, how: str, by: str, why: str) -> Change:
    """Record what nobody recorded, give a version the alias, record that; go on where that was interrupted."""
    recorded = _recorded(name)
    if how == PROMOTED and recorded and current(name) == number == recorded[-1].version:
        _mark(name, recorded[-1])
        return recorded[-1]
    for found in _unrecorded(name, recorded):
        if how != PROMOTED or found.version != number:
            recorded.append(_record(name, found))
    last = recorded[-1] if recorded else None
    previous, network = last.version if last else None, _network(name, number)
    change = Change(last.number + 1 if last else 1, number, previous, how, runs.now(), by, why[:MAX_REASON], network)
    versions.set_alias(name, names.CHAMPION, number)
    _record(name, change)
    for old in recorded[: -KEPT + 1]:
        runs.client().delete_registered_model_tag(name, _key(old))
    _mark(name, change)
    return change


def _record(name: str, change: Change) -> Change:
    runs.client().set_registered_model_tag(name, _key(change), json.dumps(asdict(change)))
    return change


def _key(change: Change) -> str:
    """The run's ID in it keeps two machines from writing the same tag."""
    return f"{names.TAG_HISTORY}{change.number:06d}.{change.by[:8] or 'found'}"


def _mark(name: str, change: Change) -> None:
    """What a version tells of its latest time as champion."""
    tags = {
        names.TAG_PREVIOUS_CHAMPION: change.previous or "",
        names.TAG_CHAMPION_SINCE: change.at,
        names.TAG_CHAMPION_BY: change.by,
        names.TAG_CHAMPION_WHY: change.why,
    }
    for key, value in tags.items():
        runs.client().set_model_version_tag(name, change.version, key, value)
    if names.TAG_ROLLED_BACK in versions.version(name, str(change.version)).tags:
        runs.client().delete_model_version_tag(name, change.version, names.TAG_ROLLED_BACK)


def _recorded(name: str) -> list[Change]:
    """The changes that steps recorded, oldest first; none if there is no such model."""
    tags = versions.model_tags(name)
    changes = [_parsed(key, value) for key, value in tags.items() if key.startswith(names.TAG_HISTORY)]
    return sorted((c for c in changes if c is not None), key=lambda c: (c.number, c.at))


def _parsed(key: str, value: str) -> Change | None:
    try:
        return Change(**json.loads(value))
    except (ValueError, TypeError):
        log.warning("the tag %s of the model is no record of a champion: it is passed over", key)
        return None


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
