"""PEP 517 backend: Petastorm 0.12.1's own wheel, made to run on today's Arrow and NumPy.

Petastorm calls a dataset API that pyarrow 15 removed, and names that NumPy 2 removed
(uber/petastorm#805). This backend takes the pinned release (a wheel without compiled code, whose
SHA-256 is checked; there is no source archive), adds `legacy_arrow.py` to it, and points `CHANGES` of
its lines there. So Spark's workers have the names too, and no other package sees a changed pyarrow or
NumPy. The wheel's version says that it is another: 0.12.1+arrow.

Petastorm's own tests, which its wheel ships, are changed alike; `make peers` runs them.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
VERSION, CHANGED_VERSION = "0.12.1", "0.12.1+arrow"
REQUIREMENT = f"petastorm=={VERSION} --hash=sha256:25f7737bbbd8ebcbe6aac9546c50ee7e739902facd434c1dd2d4c6fe7c0acfe9"
LEGACY = "from petastorm.legacy_arrow import"
CHANGES = [  # (regular expression, what takes its place, how often it is found in the wheel)
    # Arrow's former names
    (
        r"^(?:from pyarrow import parquet|import pyarrow\.parquet) as pq$",
        "from petastorm import legacy_arrow as pq",
        11,
    ),
    (r"^from pyarrow(?:\.filesystem)? import LocalFileSystem$", f"{LEGACY} LocalFileSystem", 3),
    (r"^from pyarrow\.hdfs import HadoopFileSystem$", f"{LEGACY} HadoopFileSystem, hdfs", 1),
    (r"^from pyarrow\.lib import ArrowIOError$", f"{LEGACY} ArrowIOError", 3),
    (r"^import pyarrow(?:\.hdfs)?$(?=[\s\S]*\bpyarrow\.(?:localfs|LocalFileSystem)\b)", f"{LEGACY} LocalFileSystem", 3),
    (r"\bpyarrow\.localfs\b", "LocalFileSystem()", 2),
    (r"\bpyarrow\.LocalFileSystem\b", "LocalFileSystem", 2),
    (r"\breturn pyarrow\.hdfs\.connect\(", "return hdfs.connect(", 1),
    # NumPy's former names
    (r"\bnp\.string_(?!\w)", "np.bytes_", 36),
    (r"\bnp\.unicode_(?!\w)", "np.str_", 27),
    (r"\bnp\.in1d\b", "np.isin", 1),
    (r"\bnp\.float\b", "float", 5),
    (r"\bnp\.bool\b", "np.bool_", 1),
    # what pandas and Python had
    (r"^from pandas\.util\.testing import", "from pandas.testing import", 1),
    (r"\binspect\.getargspec\(", "inspect.getfullargspec(", 1),
    (r"^from distutils\.version import LooseVersion$", "from packaging.version import Version as LooseVersion", 3),
]


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """Put the changed wheel into `wheel_directory`; return its name."""
    with tempfile.TemporaryDirectory() as scratch:
        requirements = Path(scratch, "requirements.txt")
        requirements.write_text(REQUIREMENT + "\n")
        verified = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", str(requirements)]
        _python("pip", "download", *verified, "--dest", scratch)
        _python("wheel", "unpack", f"--dest={scratch}", str(next(Path(scratch).glob("*.whl"))))
        folder = Path(scratch, f"petastorm-{VERSION}")
        _change(folder)
        before = set(Path(wheel_directory).glob("*.whl"))
        _python("wheel", "pack", f"--dest-dir={wheel_directory}", str(folder))
        return (set(Path(wheel_directory).glob("*.whl")) - before).pop().name


def build_sdist(sdist_directory, config_settings=None):
    """Refuse: this folder builds wheels only (PEP 517 requires the hook to exist)."""
    raise SystemExit(f"This folder only builds wheels: install it with `pip install ./{HERE.name}`.")


def _python(module, *arguments):
    subprocess.run([sys.executable, "-m", module, *arguments], check=True)


def _change(folder):
    """Make `CHANGES` in an unpacked wheel, add what they point to, and give it its version."""
    found = dict.fromkeys((pattern for pattern, _, _ in CHANGES), 0)
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for pattern, replacement, _ in CHANGES:
            text, count = re.subn(pattern, replacement, text, flags=re.MULTILINE)
            found[pattern] += count
        path.write_text(text, encoding="utf-8")
    for pattern, _, expected in CHANGES:
        if found[pattern] != expected:
            raise SystemExit(f"Petastorm holds {pattern} {found[pattern]} times, and this recipe expects {expected}.")
    added = folder / "petastorm" / "legacy_arrow.py"
    added.write_bytes((HERE / added.name).read_bytes())
    info = folder / f"petastorm-{VERSION}.dist-info"
    metadata = info / "METADATA"
    text = metadata.read_text(encoding="utf-8")
    metadata.write_text(text.replace(f"\nVersion: {VERSION}\n", f"\nVersion: {CHANGED_VERSION}\n", 1), encoding="utf-8")
    info.rename(folder / f"petastorm-{CHANGED_VERSION}.dist-info")
