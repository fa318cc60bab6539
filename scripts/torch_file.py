"""A `.pth` file as PyTorch wrote it before 1.6 → its tensors, as NumPy arrays, without unpickling anything.

Such a file is five pickles and the bytes of its storages. `pickle` would run whatever they name; here their opcodes
are walked, and only what `OPCODES` lists is done: numbers, text, tuples, lists and dicts are built, and of all the
names that a pickle may call those of `CALLS`, each of which is a function of this file. Anything else is refused.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
TYPES = {"torch FloatStorage": np.dtype("<f4"), "torch LongStorage": np.dtype("<i8")}
MARK = object()


@dataclass(frozen=True)
class Storage:
    """`count` numbers whose bytes follow the pickles."""

    key: str
    dtype: np.dtype
    count: int


@dataclass(frozen=True)
class Tensor:
    """A part of a storage; `strides` are in numbers, not bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read(path: Path) -> dict[str, np.ndarray]:
    """The file's tensors by name; raises `ValueError` for anything else than a dict of tensors."""
    with path.open("rb") as file:
        if (_value(file), _value(file)) != (MAGIC, PROTOCOL) or not _value(file)["little_endian"]:
            raise ValueError(
                f"Only PyTorch's files from before 1.6 with the low byte first can be read. Received: {path}"
            )
        tensors, keys = _value(file), _value(file)
        used = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
        values = {key: _numbers(file, used[key]) for key in keys}
        if file.read(1):
            raise ValueError(f"Bytes follow the last storage. Received: {path}")
    return {name: _part(values[tensor.storage.key], tensor) for name, tensor in tensors.items()}


def _numbers(file: BinaryIO, storage: Storage) -> np.ndarray:
    if int.from_bytes(file.read(8), "little") != storage.count:
        raise ValueError(f"A storage has another length than its pickle says. Received: {storage}")
    return np.frombuffer(file.read(storage.count * storage.dtype.itemsize), storage.dtype, storage.count)


def _part(values: np.ndarray, tensor: Tensor) -> np.ndarray:
    last = tensor.offset + sum(
        (length - 1) * stride for length, stride in zip(tensor.shape, tensor.strides, strict=True)
    )
    if min((tensor.offset, *tensor.strides, *(length - 1 for length in tensor.shape))) < 0 or last >= len(values):
        raise ValueError(f"A tensor reaches beyond its storage. Received: {tensor}")
    strides = [stride * values.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.shape, strides, writeable=False)


def _value(file: BinaryIO) -> Any:
    """The value of the next pickle; raises `ValueError` for an opcode or a name that is not listed here."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name == "STOP":
            return stack.pop()
        if opcode.name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif opcode.name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif opcode.name in OPCODES:
            OPCODES[opcode.name](stack, argument)
        else:
            raise ValueError(f"A pickle asks for what no file of weights needs. Received: {opcode.name}")


def _storage(identifier: tuple[Any, ...]) -> Storage:
    kind, dtype, key, _, count, _ = identifier
    if kind != "storage":
        raise ValueError(f"A pickle refers to what is no storage. Received: {kind}")
    return Storage(key, dtype, count)


def _tensor(storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> Tensor:
    return Tensor(storage, offset, shape, strides)


CALLS: dict[str, Callable[..., Any]] = {"collections OrderedDict": dict, "torch._utils _rebuild_tensor_v2": _tensor}


def _named(stack: list[Any], name: str) -> None:
    if name not in CALLS and name not in TYPES:
        raise ValueError(f"A pickle names what no file of weights needs. Received: {name}")
    stack.append(CALLS.get(name) or TYPES[name])


def _call(stack: list[Any], _: Any) -> None:
    arguments, function = stack.pop(), stack.pop()
    if function not in CALLS.values():
        raise ValueError(f"A pickle calls what is no function. Received: {function}")
    stack.append(function(*arguments))


def _since_mark(stack: list[Any]) -> list[Any]:
    values: list[Any] = []
    while (value := stack.pop()) is not MARK:
        values.append(value)
    return values[::-1]


def _tuple_of(count: int) -> Callable[[list[Any], Any], None]:
    return lambda stack, _: stack.append(tuple([stack.pop() for _ in range(count)][::-1]))


def _set_items(stack: list[Any], _: Any) -> None:
    items = _since_mark(stack)
    stack[-1].update(zip(items[::2], items[1::2], strict=True))


def _append(stack: list[Any], _: Any) -> None:
    values = _since_mark(stack)
    stack[-1].extend(values)


def _set_item(stack: list[Any], _: Any) -> None:
    value, key = stack.pop(), stack.pop()
    stack[-1][key] = value


def _push(stack: list[Any], argument: Any) -> None:
    stack.append(argument)


OPCODES: dict[str, Callable[[list[Any], Any], Any]] = {
    "PROTO": lambda stack, _: None,
    "MARK": lambda stack, _: stack.append(MARK),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE"), _push),
    "NONE": lambda stack, _: stack.append(None),
    "NEWTRUE": lambda stack, _: stack.append(True),
    "NEWFALSE": lambda stack, _: stack.append(False),
    "EMPTY_TUPLE": _tuple_of(0),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "TUPLE": lambda stack, _: stack.append(tuple(_since_mark(stack))),
    "EMPTY_LIST": lambda stack, _: stack.append([]),
    "APPEND": lambda stack, _: stack[-2].append(stack.pop()),
    "APPENDS": _append,
    "EMPTY_DICT": lambda stack, _: stack.append({}),
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "BUILD": lambda stack, _: stack.pop(),  # an attribute of the dict: the versions of its modules
    "GLOBAL": _named,
    "REDUCE": _call,
    "BINPERSID": lambda stack, _: stack.append(_storage(stack.pop())),
}
