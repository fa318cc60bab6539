"""A source in, a hash of what its files hold out: what a cache key has of it, and what a step has read of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from baton.data.sources.files import Source
from baton.runtime.files import sha256


def of_files(files: list[Path], names: Mapping[Path, str] | None = None) -> str:
    """Files → a hash of what they hold and of their `names`, if these count, whatever their order and times."""
    named = ((names.get(file, "") if names else "", sha256(file)) for file in files)
    return hashlib.sha256("".join(f"{name}{digest}" for name, digest in sorted(named)).encode()).hexdigest()


def of_source(source: Source) -> str:
    """What a source holds, with the pictures that it names; of a table nothing is known, and it is empty."""
    named = {place for place in source.pictures() if isinstance(place, Path)} - set(source.files)
    return of_files([*source.files, *sorted(named)], source.names()) if source.files else ""


def of_what_was_read(source: Source) -> str:
    """What a source held while it was read; raises `BadInput` if a file changed after it was found.

    It is hashed after the reading: what was replaced before that, and is back by now, has another time of change.
    """
    digest = of_source(source)
    source.check_unchanged()
    return digest
