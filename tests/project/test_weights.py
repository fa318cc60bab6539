"""Weights of other projects become Keras networks: nothing is unpickled, and the networks compute what they should."""

import importlib
import io
import pickle
import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType, SimpleNamespace

import keras
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(monkeypatch):
    """A script's module by its name."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module


@pytest.fixture
def torch(monkeypatch):
    """What PyTorch's old pickles name, under the same names."""
    modules = {"torch": ModuleType("torch"), "torch._utils": ModuleType("torch._utils")}
    storage = type("FloatStorage", (), {"__module__": "torch"})

    def _rebuild_tensor_v2(): ...

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    modules["torch"].FloatStorage, modules["torch._utils"]._rebuild_tensor_v2 = storage, _rebuild_tensor_v2
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return SimpleNamespace(storage=storage, rebuild=_rebuild_tensor_v2)


class Values:
    """A storage: numbers under a key."""

    def __init__(self, key, numbers):
        self.key, self.numbers = key, np.asarray(numbers, "<f4")


class Tensor:
    """A tensor as PyTorch's own pickle describes it."""

    def __init__(self, rebuild, storage, offset, shape, strides):
        self.reduced = rebuild, (storage, offset, shape, strides, False, OrderedDict())

    def __reduce__(self):
        return self.reduced


class State(OrderedDict):
    """A dict of tensors that has an attribute, as a module's has."""

    def __reduce__(self):
        return OrderedDict, (), {"_metadata": {"": {"version": 1}}}, None, iter(self.items())


def written(torch, path, tensors, storages):
    """A file of these tensors as PyTorch wrote it before 1.6 → its path."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            is_storage = isinstance(value, Values)
            return ("storage", torch.storage, value.key, "cpu", len(value.numbers), None) if is_storage else None

    file = io.BytesIO()
    for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, tensors, [s.key for s in storages]):
        Pickler(file, 2).dump(value)
    for storage in storages:
        file.write(len(storage.numbers).to_bytes(8, "little") + storage.numbers.tobytes())
    path.write_bytes(file.getvalue())
    return path


def test_a_file_of_tensors_is_read_by_its_opcodes(script, torch, tmp_path):
    first, second = Values("7", range(12)), Values("3", [0.5, -1.5])
    tensors = State(
        whole=Tensor(torch.rebuild, first, 0, (3, 4), (4, 1)),
        turned=Tensor(torch.rebuild, first, 4, (2, 4), (1, 2)),
        other=Tensor(torch.rebuild, second, 1, (), ()),
    )
    values = script("torch_file").read(written(torch, tmp_path / "a.pth", tensors, [second, first]))
    assert {name: value.tolist() for name, value in values.items()} == {
        "whole": np.arange(12.0).reshape(3, 4).tolist(),
        "turned": np.arange(4.0, 12.0).reshape(4, 2).T.tolist(),
        "other": -1.5,
    }


class Runs:
    """Unpickled, it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.mkdir, (self.path,)


def test_a_file_that_would_run_code_is_refused_and_runs_none(script, torch, tmp_path):
    path = written(torch, tmp_path / "a.pth", {"x": Runs(tmp_path / "run")}, [])
    with pytest.raises(ValueError, match=r"Received: (\w+ getattr|pathlib.* Path)"):
        script("torch_file").read(path)
    assert not (tmp_path / "run").exists()


def test_a_call_of_what_the_file_itself_built_is_refused(script, tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(b"\x80\x02X\x01\x00\x00\x00a)R.")
    with pytest.raises(ValueError, match="calls what is no function. Received: a"):
        script("torch_file").read(path)


@pytest.mark.parametrize(("offset", "shape", "strides"), [(0, (5,), (1,)), (1, (2, 2), (2, 1)), (3, (2,), (-1,))])
def test_a_tensor_beyond_its_storage_is_refused(script, torch, tmp_path, offset, shape, strides):
    storage = Values("0", range(4))
    tensors = {"x": Tensor(torch.rebuild, storage, offset, shape, strides)}
    with pytest.raises(ValueError, match="reaches beyond its storage"):
        script("torch_file").read(written(torch, tmp_path / "a.pth", tensors, [storage]))


def lite(rng):
    """Tensors of a small EfficientNet-Lite in PyTorch's layout: three blocks, the last adds its input."""

    def norm(name, channels):
        parts = {"weight": (0.5, 1.5), "bias": (-1, 1), "running_mean": (-1, 1), "running_var": (0.5, 2)}
        return {f"{name}.{part}": rng.uniform(*ends, channels).astype(np.float32) for part, ends in parts.items()}

    def conv(name, bn, *shape):
        return {f"{name}.weight": rng.normal(0, 0.5, shape).astype(np.float32), **norm(bn, shape[0])}

    tensors = conv("_conv_stem", "_bn0", 4, 3, 3, 3) | conv("_conv_head", "_bn1", 5, 6, 1, 1)
    for index, (before, inside, after, size) in enumerate([(4, 4, 3, 3), (3, 6, 6, 5), (6, 8, 6, 3)]):
        name = f"_blocks.{index}."
        if inside != before:
            tensors |= conv(name + "_expand_conv", name + "_bn0", inside, before, 1, 1)
        tensors |= conv(name + "_depthwise_conv", name + "_bn1", inside, 1, size, size)
        tensors |= conv(name + "_project_conv", name + "_bn2", after, inside, 1, 1)
    return tensors


@pytest.mark.parametrize("size", [16, 13])
def test_every_layer_of_the_converted_network_is_the_references(script, size):
    lite0, rng = script("convert_lite0"), np.random.default_rng(3)
    tensors = lite(rng)
    model = lite0.network(tensors)
    pixels = rng.integers(0, 256, (size, size, 3)).astype(np.float32)
    differences = lite0.differences(model, tensors, pixels)
    assert len(differences) == 10 and max(differences.values()) < 1e-5
    assert [layer.name for layer in model.layers if layer.name.endswith("add")] == ["block2_add"]
    assert model.input.name == "image" and len(model.output.shape) == 4


def test_the_reference_is_a_convolution_as_it_is_defined(script):
    x, kernel = np.arange(9.0).reshape(1, 3, 3), np.ones((1, 1, 3, 3))
    assert script("convert_lite0")._convolved(x, kernel, 1).tolist() == [[[8, 15, 12], [21, 36, 27], [20, 33, 24]]]
    assert script("convert_lite0")._convolved(x[:, :2, :2], kernel, 2).tolist() == [
        [[8.0]]
    ]  # one row and column after it


def test_mobilenets_arrays_go_to_the_layers_of_their_names(script):
    mobilenet = script("convert_mobilenet")
    keras.utils.set_random_seed(5)
    source = keras.applications.MobileNetV2((160, 160, 3), weights=None, include_top=False)
    arrays = {layer.name: {w.name: w + 0.5 for w in layer.weights} for layer in source.layers[::-1]}
    weights = mobilenet.network(arrays).get_weights()
    assert all(np.array_equal(value, before + 0.5) for value, before in zip(weights, source.get_weights(), strict=True))
    del arrays["bn_Conv1"]
    with pytest.raises(KeyError, match="bn_Conv1"):
        mobilenet.network(arrays)
