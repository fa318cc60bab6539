"""What `data.source` or `batch_infer.source` names in, the files that are data out; raises `BadInput`.

Nothing is opened here: names alone decide.
"""

from __future__ import annotations

import fnmatch
import glob
from pathlib import Path

from baton.data.sources import partitions, picture_folders
from baton.data.sources.plain_text import is_packed
from baton.errors import BadInput

CSV_SUFFIXES = (".csv", ".tsv", ".txt", ".data")
PARQUET_SUFFIXES = (".parquet", ".pq")
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")


def fixed_part(location: str) -> Path:
    """The folder below which names of folders say something: a folder itself, a glob's part without wildcards.

    What is there by that very name (a folder called `data[1]`) is no wildcard.
    """
    path = Path(location)
    if path.is_dir() or path.is_file() or not glob.has_magic(location):
        return path if path.is_dir() else path.parent
    wild = (part for part in (*path.parents[::-1], path) if glob.has_magic(part.name) and not part.exists())
    return next(wild, path).parent


def matching(location: str) -> list[Path]:
    """The files at a file, folder or glob, in order; raises `BadInput` if there are none, or it is no path at all."""
    try:
        files = _matching(location)
        _check_is_no_table(files, fixed_part(location), location)
    except (OSError, ValueError) as error:  # a name too long, a NUL in it, a folder that may not be entered
        raise BadInput(f"The source cannot be read: {error}. Received: {location[:200]}") from None
    if not files:
        raise BadInput(f"There is no file at the source. Received: {location}")
    return files


def would_match(location: str, file: Path) -> bool:
    """Whether a file, which need not be there, would be among the files at a folder or glob."""
    root = fixed_part(location).resolve()
    if not file.is_relative_to(root) or Path(location).is_file():
        return False
    pattern = Path(location).parts[len(fixed_part(location).parts) :] or ("**",)
    return _matches(file.relative_to(root).parts, pattern) and not _hidden(file, root, pattern)


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether a relative path is matched by a glob, both in parts."""
    if not pattern or not parts:
        return not parts and all(part == "**" for part in pattern)
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or _matches(parts[1:], pattern)
    return fnmatch.fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def format_of(files: list[Path], location: str) -> str:
    """csv | parquet | images: the one format of all files, by their names; raises `BadInput` if it is not one."""
    formats = {file: _format(file) for file in files}
    pictures = picture_folders.is_picture_folder(files, location)
    strange = [file for file, format_ in formats.items() if format_ is None]
    if archive := next((file for file in strange if file.suffix.lower() in ARCHIVE_SUFFIXES), None):
        raise BadInput(f"Archives are not read: unpack it, and name the folder. Received: {archive}")
    if pictures:
        return "images"
    if len(set(formats.values())) > 1 or strange:
        received = strange[0] if strange else ", ".join(sorted({file.suffix for file in files}))
        raise BadInput(f"{location} must hold only CSV, only Parquet or only image files. Received: {received}")
    return str(formats[files[0]])


def _matching(location: str) -> list[Path]:
    path = Path(location)
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if not _hidden(p, path))
        if dead := next((p for p in inside if p.is_symlink() and not p.is_file()), None):
            raise BadInput(f"A link to a folder or to nothing is not followed: remove it. Received: {dead}")
        return [p for p in inside if p.is_file()]
    if path.is_file():
        return [path]
    root = fixed_part(location)
    pattern = str(path.relative_to(root))
    matches = sorted(root / p for p in glob.glob(pattern, root_dir=root, recursive=True))  # noqa: PTH207 - links too
    return [p for p in matches if p.is_file() and not _hidden(p, root, path.parts)]


def _format(file: Path) -> str | None:
    suffix = file.suffix.lower()
    if is_packed(file):
        return "csv" if Path(file.stem).suffix.lower() in CSV_SUFFIXES else None
    formats = {"images": picture_folders.SUFFIXES, "csv": CSV_SUFFIXES, "parquet": PARQUET_SUFFIXES}
    return next((name for name, suffixes in formats.items() if suffix in suffixes), None)


def _hidden(path: Path, root: Path, named: tuple[str, ...] = ()) -> bool:
    """Files of Spark, Petastorm (`_SUCCESS`, `_common_metadata`, `.crc`) and systems (`Thumbs.db`) are no data, nor
    what lies in such folders, unless a glob names them."""
    *folders, name = path.relative_to(root).parts
    if name.startswith("_") and partitions.is_partition(name) and path.is_dir():
        folders, name = [*folders, name], ""
    hidden = {f for f in folders if f.startswith(".") or (f.startswith("_") and not partitions.is_partition(f))}
    if name.startswith(("_", ".")) or name.lower() in picture_folders.SYSTEM_FILES:
        hidden.add(name)
    return bool(hidden - set(named))


def _check_is_no_table(files: list[Path], root: Path, location: str) -> None:
    """Raise `BadInput` if files belong to a table of Delta, Iceberg or Hudi: not every file there is in the table."""
    if files == [Path(location)]:
        return  # a file that is named itself
    folders = {root, *(folder for file in files for folder in file.parents if folder.is_relative_to(root))}
    if root.name == "data":  # of Iceberg, which has its metadata beside that
        folders.add(root.parent)
    for folder in sorted(folders):
        if kind := _table_kind(folder):
            raise BadInput(
                f"{folder} is a table of {kind}, whose folder holds deleted rows too: read it with Spark as "
                f"table:<name>, or write a Parquet copy of it. Received: {location}"
            )


def _table_kind(folder: Path) -> str | None:
    if (folder / "_delta_log").is_dir():
        return "Delta"
    if (folder / ".hoodie").is_dir():
        return "Hudi"
    return "Iceberg" if next((folder / "metadata").glob("*.metadata.json"), None) else None
