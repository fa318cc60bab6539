"""PEP 517 backend: Horovod 0.28.1's own source, built against the pinned TensorFlow.

A plain `horovod` requirement does not build today: pip and uv build in isolation, so Horovod's
setup sees no TensorFlow, and its TensorFlow part includes XLA headers that TensorFlow no longer
ships. This backend's build requirements bring TensorFlow in; it makes the missing headers (empty:
the code that used them is inside `#if HAVE_GPU`), sets Horovod's build variables, and lets pip
build the release from its source, whose SHA-256 is checked.

The wheel is kept in a cache (`$BATON_WHEEL_CACHE`, else `$XDG_CACHE_HOME/baton/wheels`, else
`~/.cache/baton/wheels`), under a key of all that goes into it, so that it is compiled once a
machine, whichever environment asks for it.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
REQUIREMENT = "horovod==0.28.1 --hash=sha256:92a43f5a94c43907a56805bad15f19700c62ffc83b7ca483f9e104e229f67ef0"
MISSING_HEADERS = (
    "tensorflow/compiler/tf2xla/xla_op_kernel.h",
    "tensorflow/compiler/tf2xla/xla_op_registry.h",
    "tensorflow/compiler/xla/client/xla_builder.h",
    "tensorflow/compiler/xla/service/custom_call_target_registry.h",
    "tensorflow/compiler/xla/service/hlo.pb.h",
    "tensorflow/compiler/xla/shape.h",
    "tensorflow/compiler/xla/xla_data.pb.h",
)
BUILD_VARIABLES = {
    "HOROVOD_WITH_TENSORFLOW": "1",
    "HOROVOD_WITH_GLOO": "1",
    "HOROVOD_WITHOUT_MPI": "1",
    "HOROVOD_WITHOUT_PYTORCH": "1",
    "HOROVOD_WITHOUT_MXNET": "1",
    "MAKEFLAGS": f"-j{os.cpu_count() or 1}",
}


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """Put a Horovod wheel into `wheel_directory`, compiled or from the cache; return its name."""
    if shutil.which("g++") is None:
        raise SystemExit("Horovod is compiled here and g++ is missing: install g++ and try again.")
    cache = _cache_root() / _cache_key()
    wheels = sorted(cache.glob("*.whl"))
    if not wheels:
        _compile_into(cache)
        wheels = sorted(cache.glob("*.whl"))
    shutil.copy2(wheels[0], wheel_directory)
    return wheels[0].name


def build_sdist(sdist_directory, config_settings=None):
    """Refuse: this folder builds wheels only (PEP 517 requires the hook to exist)."""
    raise SystemExit("This folder only builds wheels: install it with `pip install ./horovod-0.28.1-tf2.21`.")


def _cache_root():
    explicit = os.environ.get("BATON_WHEEL_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(explicit) if explicit else Path(base) / "baton" / "wheels"


def _cache_key():
    """Sixteen hex digits over this recipe, the interpreter, the platform and TensorFlow."""
    parts = [
        Path(__file__).read_bytes(),
        (HERE / "pyproject.toml").read_bytes(),
        sys.version.encode(),
        sysconfig.get_platform().encode(),
        version("tensorflow-cpu").encode(),
    ]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _compile_into(cache):
    """Compile aside and rename, so that a killed build leaves no half wheel in the cache."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.parent) as scratch:
        headers, out = Path(scratch, "headers"), Path(scratch, "wheel")
        for name in MISSING_HEADERS:
            (headers / name).parent.mkdir(parents=True, exist_ok=True)
            (headers / name).touch()
        requirements = Path(scratch, "requirements.txt")
        requirements.write_text(REQUIREMENT + "\n")
        flags = f"{os.environ.get('CXXFLAGS', '')} -I{headers}".strip()
        command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
        # --no-cache-dir: pip would take a wheel it once built, whatever TensorFlow that was built against.
        command += ["--no-cache-dir", "--no-binary", "horovod", "--require-hashes", "-r", str(requirements)]
        subprocess.run(
            [*command, "--wheel-dir", str(out)],
            env={**os.environ, **BUILD_VARIABLES, "CXXFLAGS": flags},
            check=True,
        )
        try:
            out.rename(cache)
        except OSError:  # another process finished the same wheel first
            if not list(cache.glob("*.whl")):
                raise
