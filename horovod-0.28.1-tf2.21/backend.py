"""PEP 517 backend: Horovod 0.28.1's own source, built against the pinned TensorFlow.

A plain `horovod` requirement does not build today: pip and uv build in isolation, so Horovod's
setup sees no TensorFlow, and its TensorFlow part includes XLA headers that TensorFlow no longer
ships. This backend's build requirements bring TensorFlow in; it makes the missing headers (empty:
the code that used them is inside `#if HAVE_GPU`), sets Horovod's build variables, and lets pip
build the release from its source, whose SHA-256 is checked.

`CHANGES` mends two waits that cost a worker with a core of its own several milliseconds a step:
Horovod's thread looked for tensors once a cycle, and now wakes when there are some; and the loop of
Gloo's TCP transport spun while another thread held the lock it wanted, and now gives up its turn.

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
import tarfile
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

TENSOR_QUEUE, PAIR = "horovod/common/tensor_queue", "third_party/gloo/gloo/transport/tcp/pair.cc"
CHANGES = [  # (file of the source, text that it holds once, what takes its place)
    (
        f"{TENSOR_QUEUE}.h",
        "#include <mutex>\n",
        "#include <chrono>\n#include <condition_variable>\n#include <mutex>\n",
    ),
    (
        f"{TENSOR_QUEUE}.h",
        "  void RemoveJoinTensor();\n",
        "  void RemoveJoinTensor();\n\n"
        "  // Sleep until there are messages in the queue, or for so long.\n"
        "  void WaitForMessages(std::chrono::steady_clock::duration timeout);\n",
    ),
    (
        f"{TENSOR_QUEUE}.h",
        "  mutable std::mutex mutex_;\n",
        "  mutable std::mutex mutex_;\n\n  std::condition_variable messages_added_;\n",
    ),
    (
        f"{TENSOR_QUEUE}.cc",
        "  message_queue_.push(std::move(message));\n  return Status::OK();\n}\n",
        "  message_queue_.push(std::move(message));\n  messages_added_.notify_one();\n  return Status::OK();\n}\n\n"
        "void TensorQueue::WaitForMessages(std::chrono::steady_clock::duration timeout) {\n"
        "  std::unique_lock<std::mutex> guard(mutex_);\n"
        "  messages_added_.wait_for(guard, timeout, [this] { return !message_queue_.empty(); });\n}\n",
    ),
    (
        f"{TENSOR_QUEUE}.cc",
        "    message_queue_.push(std::move(messages[i]));\n  }\n",
        "    message_queue_.push(std::move(messages[i]));\n  }\n  messages_added_.notify_one();\n",
    ),
    (
        "horovod/common/operations.cc",
        "    std::this_thread::sleep_for(sleep_duration);\n  }\n  state.last_cycle_start",
        "    state.process_set_table.Get(0).tensor_queue.WaitForMessages(sleep_duration);\n"
        "  }\n  state.last_cycle_start",
    ),
    (PAIR, "#include <sys/types.h>\n", "#include <sys/types.h>\n#include <thread>\n"),
    (
        PAIR,
        "  if (!lock) {\n    return;\n  }\n\n  // State must be <= CONNECTED.",
        "  if (!lock) {\n    std::this_thread::yield();\n    return;\n  }\n\n  // State must be <= CONNECTED.",
    ),
]


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
        pip, plain = [sys.executable, "-m", "pip"], ["--no-deps", "--no-build-isolation"]
        environment = {**os.environ, **BUILD_VARIABLES, "CXXFLAGS": flags}
        verified = ["--no-binary", "horovod", "--require-hashes", "-r", str(requirements)]
        subprocess.run([*pip, "download", *plain, *verified, "--dest", scratch], env=environment, check=True)
        source = _changed_source(next(Path(scratch).glob("horovod-*.tar.gz")))
        # --no-cache-dir: pip would take a wheel it once built, whatever TensorFlow that was built against.
        wheel = [*pip, "wheel", *plain, "--no-cache-dir", str(source), "--wheel-dir", str(out)]
        subprocess.run(wheel, env=environment, check=True)
        try:
            out.rename(cache)
        except OSError:  # another process finished the same wheel first
            if not list(cache.glob("*.whl")):
                raise


def _changed_source(archive):
    """Unpack a source archive beside it and make `CHANGES`; return its folder."""
    folder = archive.parent / archive.name.removesuffix(".tar.gz")
    with tarfile.open(archive) as packed:
        # Python's filter came with 3.11.4; pip has checked the archive's hash.
        packed.extractall(archive.parent, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    for name, before, after in CHANGES:
        text = (folder / name).read_text()
        if text.count(before) != 1:
            raise SystemExit(f"{name} of Horovod's source is not what this recipe changes.")
        (folder / name).write_text(text.replace(before, after))
    return folder
