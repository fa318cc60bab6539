"""The folder of predictions, which is replaced whole: which folder may be, and how.

Replaced is only what is empty, or bears Baton's mark (`_scoring.json`, of the same pipeline) and holds nothing else.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from baton import names
from baton.config.schema import BatchInfer, Config
from baton.data.sources import locations
from baton.errors import BadInput, listed, refuse, writing
from baton.runtime import file_systems, locks, replacing
from baton.runtime.files import flush, new_folder
from baton.runtime.paths import ROOT
from baton.tracking import servers

log = logging.getLogger("baton")

MARK = f"_{names.SCORING}"
# Besides what batch_infer writes, what Spark, Petastorm, file servers and desktops leave of themselves.
LEFT = r"_SUCCESS|_(?:common_)?metadata|\..*\.crc|\.(?:nfs|fuse_hidden)[0-9a-f]+|\._.*|\.DS_Store"
OWN_FILES = re.compile(rf"part-\d{{5,}}\.parquet|lines\.parquet|{re.escape(MARK)}|{LEFT}")


def check(config: Config, settings: BatchInfer) -> Path:
    """Where predictions go, links resolved; raises `BadInput` if anything there could be somebody else's."""
    try:
        place = Path(settings.output).resolve()
    except (RuntimeError, ValueError) as error:  # links in a circle, a NUL
        raise BadInput(f"batch_infer.output is no path: {error}. Received: {settings.output[:200]}") from None
    refuse([*_stores_faults(config, place), *_source_faults(config, settings, place)])
    check_replaceable(place, config.name)
    return place


def check_replaceable(place: Path, pipeline: str) -> None:
    """Raise `BadInput` if what is at `place` now is not empty and no predictions of the pipeline."""
    if not place.exists():
        return
    if not place.is_dir():
        raise BadInput(f"batch_infer.output must be a folder, and there is a file of that name. Received: {place}")
    if place.is_mount():
        raise BadInput(f"batch_infer.output must not be a mount point: name a folder in it. Received: {place}")
    if not any(place.iterdir()):
        return
    strange, owner = sorted(_strange(place)), _owner(place)
    if strange or owner is None:
        held = listed(strange or sorted(path.name for path in place.iterdir()), 3)
        raise BadInput(
            "batch_infer.output is replaced whole and holds what is no predictions: name a new or empty folder, or "
            f"move what is there. Received: {place}, which holds {held}"
        )
    if owner.casefold() != pipeline.casefold():
        raise BadInput(
            f"batch_infer.output holds the predictions of {owner}: give {pipeline} a folder of its own, or remove what "
            f"is there. Received: {place}"
        )


@contextmanager
def replaced(place: Path, pipeline: str) -> Iterator[Path]:
    """A folder to write into that takes the place of `place`, whole, if all goes well.

    It has the group and the permissions of the one that was there. Raises `BadInput` if there is no room, if nothing
    may be written there, or if something else has come there meanwhile; what is there stays as it is then.
    """
    with writing(place), _aside(place) as aside:
        yield aside
        flush(aside)
        replacing.replace(aside, place, lambda: check_replaceable(place, pipeline))


@contextmanager
def _aside(place: Path) -> Iterator[Path]:
    """A new folder beside `place`, removed at the end with all that is in it then."""
    place.parent.mkdir(parents=True, exist_ok=True)
    replacing.recover(place)
    for sentence in file_systems.fallbacks(place.parent):
        log.info("%s: %s", place.parent, sentence)
    aside = new_folder(place.parent, f".{place.name}-")
    try:
        if place.is_dir():
            _take_over_permissions(place, aside)
        with locks.held(aside):
            yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _take_over_permissions(old: Path, new: Path) -> None:
    """Give a folder the group and mode of another; its owner may always write into it."""
    stat = old.stat()
    try:
        os.chown(new, -1, stat.st_gid)
    except OSError:  # this user is not of that group
        log.warning("%s cannot be given the group of what it replaces (%d)", old, stat.st_gid)
    new.chmod((stat.st_mode & 0o7777) | 0o700)


def _stores_faults(config: Config, place: Path) -> Iterator[str]:
    """Of what must not lie in an output, and in what an output must not lie."""
    warehouse = Path(config.warehouse).resolve()
    roots = {"the project": ROOT, "the working directory": Path.cwd()}
    with suppress(RuntimeError):  # a container's user may have none
        roots["your home"] = Path.home()
    roots |= {"the warehouse": warehouse} | {f"the store {path.name}": path for path in _store_paths()}
    for what, path in roots.items():
        if path.resolve().is_relative_to(place):
            yield f"batch_infer.output must not be or hold {what}, for it is replaced whole. Received: {place}."
    folder = next((path for path in (place, *place.parents) if path.parent == warehouse), None)
    if folder is not None and (folder.name == config.name or (folder / "datasets").is_dir()):
        yield f"batch_infer.output must not lie in {folder}, where datasets and checkpoints lie. Received: {place}."


def _store_paths() -> set[Path]:
    """Where stores of MLflow on this machine lie, and MLflow's default folder of artifacts."""
    places = [Path("mlruns"), *(servers.local_place(uri) for uri in servers.uris())]
    return {place.absolute() for place in places if place is not None}


def _source_faults(config: Config, settings: BatchInfer, place: Path) -> Iterator[str]:
    """Of sources below the output, and of an output that a source would take for data the next time."""
    for location in dict.fromkeys((settings.source, config.data.source)):
        try:
            found = locations.matching(location)
        except BadInput:
            continue  # a table of Spark's, or nothing, which is told when it is read
        if any(path.is_relative_to(place) for path in _places(location, found)):
            yield f"batch_infer.output must not hold a source, for it is replaced whole. Received: {place}."
        elif locations.would_match(location, place / "part-00000.parquet"):
            yield (
                f"batch_infer.output must not lie where {location} reads: the predictions would be taken for data. "
                f"Received: {place}."
            )


def _places(location: str, matches: list[Path]) -> set[Path]:
    """Where a source and the folders of its files lie, and what links among these lead to."""
    places = {Path(location), *(path.parent for path in matches), *(path for path in matches if path.is_symlink())}
    return {path.resolve() for path in places}


def _strange(place: Path) -> Iterator[str]:
    """What lies in an output that batch_infer does not write."""
    for path in place.rglob("*"):
        relative = path.relative_to(place)
        folder = path.is_dir() and not path.is_symlink()
        if not (str(relative) == names.QUARANTINE_OUTPUT if folder else OWN_FILES.fullmatch(path.name)):
            yield relative.as_posix()


def last_scoring(place: Path) -> dict[str, Any] | None:
    """What Baton's mark in a folder tells of the predictions there; None without one."""
    try:
        mark = json.loads((place / MARK).read_text(encoding="utf-8"))
        return mark if mark["scoring_run_id"] and mark["model_name"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _owner(place: Path) -> str | None:
    """The pipeline whose predictions a folder holds; an earlier mark names its model alone, which bore that name."""
    mark = last_scoring(place)
    return None if mark is None else str(mark.get("pipeline") or mark["model_name"])
