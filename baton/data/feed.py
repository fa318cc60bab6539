"""A dataset's split in, batches for training out: every row exactly once an epoch.

Rows travel as blocks. Petastorm hands over whole row groups; a buffer of at most `shuffle_rows`
rows is permuted at once; blocks of stacked batches go through tf.data to the training step, and only
it takes them apart (`loop.each_batch`). The order is a function of seed, epoch and shard. A split that
fits the buffer is read once and kept. Pictures are decoded when they are read, and travel as bytes of pixels: what a
network makes of them, it makes of a batch.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from baton.data import petastorm
from baton.data.dataset import Dataset
from baton.data.images import Decoder
from baton.errors import BadInput, writing
from baton.runtime import heartbeat

HELD_BYTES = 1 << 30  # of an array in memory; a larger one lies in a file, of which the system holds what it can
BLOCK_BYTES = 1 << 23  # of pixels in a block
Block = dict[str, Any]
_of_process: dict[tuple[str, Decoder], dict[tuple[str, tuple[int, int]], Block]] = {}


@dataclass
class Feed:
    """Batches of one split (of `shard` = (rank, size)); the same number of steps on every rank.

    They come in blocks of `block_batches`, fewer where images are large. `seed` None keeps the rows in
    order. Short last batches are padded with rows of weight zero, pictures with some of their own: what is made of a
    whole batch, as batch normalisation is, sees nothing else than pictures.
    """

    dataset: Dataset
    split: str
    batch_size: int
    seed: int | None = None
    shard: tuple[int, int] = (0, 1)
    shuffle_rows: int = 1 << 20
    block_batches: int = 32
    class_weights: np.ndarray | None = None  # [classes]; each row's is multiplied by its class's
    augmentation: Any = None  # training.augmentation.Augmentation: what changes the pictures of a block
    epoch: int = 0
    _kept: Block | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.preprocessor = self.dataset.preprocessor
        groups = self._group_rows()
        rank, size = self.shard
        if len(groups) < size:
            raise BadInput(
                f"The {self.split} split has {len(groups)} row groups for {size} shards: run ingest again "
                "with distributed_train.workers set to the number of workers."
            )
        shard_rows = [sum(groups[r::size]) for r in range(size)]
        self.rows = shard_rows[rank]
        self.steps = max(math.ceil(rows / self.batch_size) for rows in shard_rows)
        if self.preprocessor.names("image"):
            pixels = self.batch_size * math.prod(self.preprocessor.image_shape)
            self.block_batches = max(1, min(self.block_batches, BLOCK_BYTES // pixels))

    def stream(self) -> Any:
        """A tf.data.Dataset of the blocks of the epoch `self.epoch`."""
        import tensorflow as tf

        options = tf.data.Options()
        options.autotune.enabled = False  # its thread can hold up the end of each epoch, by half a second and more
        return self._dataset_of_blocks().prefetch(2).with_options(options)

    def blocks(self, epoch: int) -> Iterator[tuple[Block, np.ndarray, np.ndarray]]:
        """Stacked batches: inputs [k, batch, …], target [k, batch], weight [k, batch]; only the last k is smaller."""
        most = self.block_batches
        done = 0
        for rows in self._shuffled(epoch, self.batch_size * most):
            if self.augmentation:
                rows = self.augmentation(rows, epoch, self.batch_size)
            yield self._stacked(rows, min(most, self.steps - done))
            done += most
        for left in range(self.steps - done, 0, -most):  # of a shard with fewer rows than the longest
            yield self._stacked(rows, min(most, left), weighing=0)

    def arrays(self) -> Block:
        """All rows of the shard in order: the network's inputs, and `target`."""
        held, count = dict[str, np.ndarray](), 0
        for group in self._groups(None):
            if _length(group) == self.rows:
                return group
            held = held or _empty(group, self.rows)
            _put(held, count, group)
            count += _length(group)
        return held

    def in_order(self) -> Iterator[Block]:
        """The same as `arrays`, in one piece and kept if the buffer holds it, else a row group at a time."""
        if self.rows > self.shuffle_rows:
            yield from self._groups(None)
            return
        if self._kept is None:
            self._kept = self._decoded_once() if self.preprocessor.names("image") else self.arrays()
        yield self._kept

    def _decoded_once(self) -> Block:
        """The same as `arrays`, of the process's one dataset of pictures: a trial finds what others decoded."""
        decoder, shard = self.preprocessor.decoder, (self.split, self.shard)
        dataset = (self.dataset.fingerprint, decoder)
        if dataset not in _of_process:
            _of_process.clear()
        held = _of_process.setdefault(dataset, {})
        if shard not in held:
            held[shard] = self.arrays()
        return held[shard]

    def _group_rows(self) -> list[int]:
        return self.dataset.row_groups(self.split)

    def _shuffled(self, epoch: int, block: int) -> Iterator[Block]:
        """The epoch's rows in its order, `block` at a time; only the last are fewer."""
        rng = None if self.seed is None else np.random.default_rng([self.seed, epoch, self.shard[0]])
        if self.rows <= self.shuffle_rows:
            for rows in self.in_order():
                yield from _gathered(rows, _order(_length(rows), rng), block)
            return
        held, count = dict[str, np.ndarray](), 0  # one buffer, filled in place
        most = max(self.shuffle_rows, block)
        seed = None if self.seed is None else int(np.random.SeedSequence([self.seed, epoch]).generate_state(1)[0])
        for group in self._groups(seed):
            held = held or _empty(group, most + max(self._group_rows()))
            _put(held, count, group)
            count += _length(group)
            if count >= most:
                order = _order(count, rng)
                whole = count - count % block
                yield from _gathered(held, order[:whole], block)
                _put(held, 0, {name: values[order[whole:]] for name, values in held.items()})
                count -= whole
        yield from _gathered(held, _order(count, rng), block)

    def _groups(self, seed: int | None) -> Iterator[Block]:
        preprocessor = self.preprocessor
        columns = [column.name for column in preprocessor.encoded] + [preprocessor.target_encoded]

        def stack(group: dict[str, np.ndarray]) -> Block:
            heartbeat.beat()
            for name in preprocessor.names("image"):
                group[name], faults = preprocessor.decoder.decode_all(group[name].tolist())
                if any(faults):
                    raise BadInput(f"A picture of the {self.split} split {next(filter(None, faults))}: ingest again.")
            return {**preprocessor.blocks(group), "target": group[preprocessor.target_encoded]}

        return petastorm.read_blocks(self.dataset.files(self.split), columns, stack, seed=seed, shard=self.shard)

    def _stacked(self, rows: Block, batches: int, weighing: int | None = None) -> tuple[Block, np.ndarray, np.ndarray]:
        """Rows, all or the first `weighing` of which count, in whole batches; the others' weight is zero."""
        count, size = _length(rows) if weighing is None else weighing, batches * self.batch_size
        weight = np.zeros(size, np.float32)
        target = rows["target"][:count]
        weight[:count] = 1 if self.class_weights is None else _by_class(self.class_weights, target)
        out = {name: _padded(values[:count], size) for name, values in rows.items() if name != "image"}
        if "image" in rows:
            out["image"] = _repeated(rows["image"], size)
        out = {name: v.reshape(batches, self.batch_size, *v.shape[1:]) for name, v in out.items()}
        target = out.pop("target")
        return out, target, weight.reshape(batches, self.batch_size)

    def _dataset_of_blocks(self) -> Any:
        """What `blocks` yields, as a tf.data.Dataset.

        Not by `from_generator`: with Python 3.11 TensorFlow then has malloc map every piece of memory of more
        than 128 KiB anew and give it back at once, from there on and in the whole process.
        """
        import tensorflow as tf

        signature = self._signature()
        specs = tf.nest.flatten(signature)
        count = math.ceil(self.steps / self.block_batches)
        blocks: Iterator[Any] = iter(())

        def take(index: int) -> list[np.ndarray]:
            nonlocal blocks
            if index == 0:
                blocks = self.blocks(self.epoch)
            taken = tf.nest.flatten(next(blocks))
            # An epoch's end lets go of its buffers: what follows it needs the memory.
            assert index < count - 1 or next(blocks, None) is None, "the feed has more blocks than it said"
            return taken

        def block(index: Any) -> Any:
            arrays = tf.numpy_function(take, [index], [spec.dtype for spec in specs])
            shaped = [tf.ensure_shape(array, spec.shape) for array, spec in zip(arrays, specs, strict=True)]
            return tf.nest.pack_sequence_as(signature, shaped)

        return tf.data.Dataset.range(count).map(block).apply(tf.data.experimental.assert_cardinality(count))

    def _signature(self) -> Any:
        import tensorflow as tf

        preprocessor, size = self.preprocessor, self.batch_size
        inputs = {}
        if names := preprocessor.names("number"):
            inputs["numbers"] = tf.TensorSpec([None, size, len(names)], tf.float32)
        if names := preprocessor.names("category"):
            inputs["categories"] = tf.TensorSpec([None, size, len(names)], tf.int32)
        if preprocessor.names("image"):
            inputs["image"] = tf.TensorSpec([None, size, *preprocessor.image_shape], tf.uint8)
        target = tf.TensorSpec([None, size], tf.int32 if preprocessor.classes else tf.float32)
        if self.augmentation and self.augmentation.mixes:
            target = tf.TensorSpec([None, size, len(preprocessor.classes)], tf.float32)
        return inputs, target, tf.TensorSpec([None, size], tf.float32)


@dataclass
class HeldFeed(Feed):
    """A feed of rows that are in memory already, as `Feed.arrays` or `in_order` gave them; no shards."""

    held: Block = field(default_factory=dict, repr=False)

    def in_order(self) -> Iterator[Block]:
        yield self.held

    def _group_rows(self) -> list[int]:
        return [_length(self.held)]

    def _groups(self, seed: int | None) -> Iterator[Block]:
        yield self.held


def _order(count: int, rng: np.random.Generator | None) -> np.ndarray:
    return np.arange(count) if rng is None else rng.permutation(count)


def _gathered(rows: Block, order: np.ndarray, size: int) -> Iterator[Block]:
    """The rows in that order, a slice at a time so that training starts at once."""
    for start in range(0, len(order), size):
        part = order[start : start + size]
        yield {name: values[part] for name, values in rows.items()}


def _empty(like: Block, count: int) -> Block:
    return {name: _room((count, *values.shape[1:]), values.dtype) for name, values in like.items()}


def _room(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array in memory, or, if it is large, in a temporary file that no other process sees."""
    size = math.prod(shape) * dtype.itemsize
    if size <= HELD_BYTES:
        return np.empty(shape, dtype)
    with writing(tempfile.gettempdir()), tempfile.TemporaryFile() as file:
        os.posix_fallocate(file.fileno(), 0, size)  # else a full disk would end the process
        return np.memmap(file, dtype, "r+", shape=shape)


def _put(rows: Block, start: int, group: Block) -> None:
    for name, values in group.items():
        rows[name][start : start + len(values)] = values


def _by_class(weights: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Weights of classes, and rows' classes [rows] or shares of them [rows, classes] → weights of rows."""
    return weights[target] if target.ndim == 1 else target @ weights


def _repeated(values: np.ndarray, size: int) -> np.ndarray:
    """The first `size` values; of fewer, the same again."""
    return values if len(values) == size else values[np.arange(size) % len(values)]


def _padded(values: np.ndarray, size: int) -> np.ndarray:
    if len(values) == size:
        return values
    return np.concatenate([values, np.zeros((size - len(values), *values.shape[1:]), values.dtype)])


def _length(rows: Block) -> int:
    return len(next(iter(rows.values())))
