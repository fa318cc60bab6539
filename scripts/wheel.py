"""Build the wheel that jobs run: `python scripts/wheel.py FOLDER [WHEEL...]`. It needs nothing but Python, and prints
its path. Other wheels are rewritten without their dependencies: Petastorm's would bring a Spark.

Not by setuptools: the steps become `baton.steps`, what they read from the tree goes to `baton/project`, and the wheel
names no dependency. A scheduler's cluster has a Spark, a NumPy of its own, which the pins would replace; what it lacks
is installed from a lock of its own (runtimes/). The same tree gives the same bytes.
"""

import base64
import hashlib
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
# What steps read of the tree, besides the package itself.
READ = ("MLproject", "requirements.txt", "LICENSE", "conf/spaces/*.yaml", "horovod-*/*.*", "petastorm-*/*.*")
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a ZIP can say


def files() -> Iterator[tuple[str, bytes]]:
    """(path in the wheel, content) of all but its own description."""
    for path in sorted((ROOT / "baton").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path.relative_to(ROOT).as_posix(), path.read_bytes()
    for path in sorted((ROOT / "steps").glob("*.py")):
        yield f"baton/steps/{path.name}", path.read_bytes()
    for pattern in READ:
        for path in sorted(ROOT.glob(pattern)):
            yield f"baton/project/{path.relative_to(ROOT).as_posix()}", path.read_bytes()


def description(project: dict) -> Iterator[tuple[str, bytes]]:
    """(file of .dist-info, content)."""
    points = [path.stem for path in sorted((ROOT / "steps").glob("*.py")) if path.stem != "__init__"]
    scripts = "".join(f"baton-{name.replace('_', '-')} = baton.steps.{name}:{name}\n" for name in points)
    scripts += "baton-approve = baton.registry.approval:main\n"
    headers = {
        "Metadata-Version": "2.4",
        "Name": project["name"],
        "Version": project["version"],
        "Summary": project["description"],
        "License-Expression": project["license"],
        "Requires-Python": project["requires-python"],
    }
    yield "METADATA", "".join(f"{key}: {value}\n" for key, value in headers.items()).encode()
    yield "WHEEL", b"Wheel-Version: 1.0\nGenerator: baton\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    yield "entry_points.txt", f"[console_scripts]\n{scripts}".encode()


def build(folder: Path) -> Path:
    """Write the wheel into a folder; its path."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    name = f"{project['name']}-{project['version']}"
    folder.mkdir(parents=True, exist_ok=True)
    wheel, about = folder / f"{name}-py3-none-any.whl", f"{name}.dist-info"
    write(wheel, about, dict(files()) | {f"{about}/{file}": text for file, text in description(project)})
    return wheel


def write(wheel: Path, about: str, content: dict[str, bytes]) -> None:
    """Write files with their hashes; `about` is the folder of the wheel's description."""
    record = "".join(f"{path},sha256={digest(data)},{len(data)}\n" for path, data in content.items())
    content[f"{about}/RECORD"] = f"{record}{about}/RECORD,,\n".encode()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in content.items():
            entry = zipfile.ZipInfo(path, EPOCH)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED)


def strip(wheel: Path) -> None:
    """Rewrite a wheel without the dependencies that it names."""
    with zipfile.ZipFile(wheel) as archive:
        content = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    record = next(name for name in content if name.endswith(".dist-info/RECORD"))
    about = record.removesuffix("/RECORD")
    del content[record]
    lines = content[f"{about}/METADATA"].splitlines(keepends=True)
    content[f"{about}/METADATA"] = b"".join(line for line in lines if not line.startswith(b"Requires-Dist:"))
    write(wheel, about, content)


def digest(data: bytes) -> str:
    """SHA-256 as a wheel's RECORD has it."""
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


if __name__ == "__main__":
    print(build(Path(sys.argv[1])))
    for name in sys.argv[2:]:
        strip(Path(name))
