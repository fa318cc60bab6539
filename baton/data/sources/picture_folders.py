"""A folder of pictures in, its files out, with the class, and the split, that their folders say.

A folder a class; or folders called train, validation (val, valid, dev) and test with class folders below. What systems
leave behind is passed over and counted; other files are read as pictures, and found to be none by their content.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from baton.data import images, splits
from baton.errors import BadInput, listed

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".gif", ".bmp", ".webp", ".tif", ".tiff")
TABLES = (".csv", ".tsv", ".parquet", ".pq")
SYSTEM_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini")
SYSTEM_FOLDERS = ("__MACOSX",)
STRANGE_SHARE, STRANGE_FILES = 0.1, 10  # of files that are no pictures, above which the folder is refused


@dataclass
class PictureFolder:
    """The files in order, whether their first folders name splits, and how many files were left out, and why."""

    root: Path
    files: list[Path]
    split: bool = False
    left_out: Counter[str] = field(default_factory=Counter)

    def label(self, file: Path) -> str | None:
        """The class of a picture; None of one that lies in no folder of a class."""
        folders = printable(file.relative_to(self.root)).split("/")[int(self.split) : -1]
        return unicodedata.normalize("NFC", folders[0]) if folders else None  # Macs write ä as two characters

    def split_of(self, file: Path) -> str:
        return file.relative_to(self.root).parts[0]

    def check_classes(self) -> None:
        """Raise `BadInput` if the pictures are not of two classes, at least, or folders of splits and others are mixed.

        Of pictures that are scored, folders need say nothing.
        """
        _check_splits(self)
        classes = {label for file in self.files if (label := self.label(file)) is not None}
        if len(classes) < 2:
            raise BadInput(
                f"Pictures to learn from lie in a folder a class, of two classes at least, and the source is what "
                f"holds these folders. Received: {self.root} with {listed(sorted(classes) or ['no folder'])}"
            )

    def notes(self) -> list[str]:
        """What a person should know of how the folder was read, as sentences."""
        notes = [f"Pictures: {count:,} files were left out: {why}." for why, count in sorted(self.left_out.items())]
        if self.split:
            found = sorted({self.split_of(file) for file in self.files})
            notes.append(
                f"Pictures: the folders {listed(found)} say each picture's split; classes are the folders below."
            )
        return notes


def is_picture_folder(files: list[Path], location: str) -> bool:
    """Whether a source is a folder, and most of its files are pictures by their names."""
    pictures = sum(file.suffix.lower() in SUFFIXES for file in files)
    return Path(location).is_dir() and 2 * pictures > len(files)


def opened(location: str) -> PictureFolder:
    """A folder → its pictures; raises `BadInput` for links, and for what is no folder of pictures."""
    root = Path(location)
    if not root.is_dir():
        raise BadInput(f"Images are read from a folder with a folder for each class. Received: {location}")
    folder = PictureFolder(root, [])
    for file in sorted(root.rglob("*")):
        if not file.is_file() and not file.is_symlink():
            continue
        if why := _passed_over(file.relative_to(root)):
            folder.left_out[why] += 1
        elif file.is_symlink():
            raise BadInput(f"A folder of images must hold no links: put the file in its place. Received: {file}")
        else:
            folder.files.append(file)
    _check_table_beside(folder)
    _check_strangers(folder)
    folder.split = _names_splits(folder)
    if folder.split:
        _leave_out_beside(folder)
    return folder


def printable(path: Path) -> str:
    """A path as text: bytes of a name that are no UTF-8 by their escapes."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


def _passed_over(path: Path) -> str:
    """Why a file is no part of the data; empty if it is."""
    *folders, name = path.parts
    if hidden := next((folder for folder in folders if folder.startswith(".")), None):
        return f"those in the folder {printable(Path(hidden))}, for its name starts with a point"
    system = name.startswith(".") or name.lower() in SYSTEM_FILES or not set(folders).isdisjoint(SYSTEM_FOLDERS)
    return "those that systems leave behind, as .DS_Store and Thumbs.db" if system else ""


def _check_table_beside(folder: PictureFolder) -> None:
    """Raise `BadInput` if pictures without classes lie beside a table that may hold their labels."""
    tables = [file for file in folder.files if file.suffix.lower() in TABLES]
    pictures = [file for file in folder.files if file.suffix.lower() in SUFFIXES]
    if tables and len({folder.label(file) for file in pictures}) < 2:
        raise BadInput(
            f"{folder.root} holds pictures without a folder a class, and a table beside them: set data.source to the "
            f"table, data.image_column to its column of paths and data.target to that of labels. Received: {tables[0]}"
        )


def _check_strangers(folder: PictureFolder) -> None:
    """Raise `BadInput` if many files are no pictures, by name and by content."""
    strange = [file for file in folder.files if file.suffix.lower() not in SUFFIXES and not starts_as_image(file)]
    if len(strange) > max(STRANGE_FILES, STRANGE_SHARE * len(folder.files)):
        raise BadInput(
            f"{len(strange):,} of {len(folder.files):,} files in {folder.root} are no pictures: put them elsewhere. "
            f"Received: {listed([printable(file.relative_to(folder.root)) for file in strange])}"
        )


def starts_as_image(file: Path) -> bool:
    """Whether a file's first bytes are those of a picture."""
    with file.open("rb") as content:
        return images.is_image(content.read(8))


def _of_splits(folder: PictureFolder) -> tuple[list[Path], list[Path]]:
    """The pictures in folders called as splits, and those in other folders; none if no two splits are named, or all
    are pictures in classes that are called so."""
    pictures = [file.relative_to(folder.root) for file in folder.files if file.suffix.lower() in SUFFIXES]
    below = [path for path in pictures if len(path.parts) > 1]
    inside = [path for path in below if _split_word(path) in splits.SPLIT_WORDS]
    beside = [path for path in below if _split_word(path) not in splits.SPLIT_WORDS]
    classes = beside and all(len(path.parts) == 2 for path in inside)
    if classes or len({splits.SPLIT_WORDS[_split_word(path)] for path in inside}) < 2:
        return [], []
    return inside, beside


def _names_splits(folder: PictureFolder) -> bool:
    """Whether the first folders name splits, and classes lie below."""
    inside, beside = _of_splits(folder)
    return bool(inside) and not beside and all(len(path.parts) > 2 for path in inside)


def _check_splits(folder: PictureFolder) -> None:
    """Raise `BadInput` if some of the first folders name splits, and others not, or no classes lie below."""
    inside, beside = _of_splits(folder)
    bare = [path for path in inside if len(path.parts) == 2]
    called = f"The folders of {folder.root} are called {listed(sorted({_split_word(path) for path in inside}))}, which"
    if bare:
        raise BadInput(
            f"{called} are splits and no classes: put a folder a class into each. Received: {printable(bare[0])}"
        )
    if beside:
        raise BadInput(
            f"{called} are splits, and others are none: put these elsewhere. Received: {printable(beside[0])}"
        )


def _split_word(path: Path) -> str:
    return path.parts[0].strip().lower()


def _leave_out_beside(folder: PictureFolder) -> None:
    """Leave out, and count, what lies beside the folders of splits or of classes: descriptions, tables, previews."""
    words = {file: _split_word(file.relative_to(folder.root)) for file in folder.files}
    inside = [file for file in folder.files if folder.label(file) is not None and words[file] in splits.SPLIT_WORDS]
    if beside := len(folder.files) - len(inside):
        folder.left_out["those beside the folders, as README.txt"] += beside
    folder.files = inside
