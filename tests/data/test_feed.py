"""The feed: every row exactly once an epoch, in an order that seed and epoch decide."""

from collections import Counter

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from baton.data import feed as feed_module
from baton.data.feed import Feed
from baton.data.images import Decoder
from baton.errors import BadInput


def rows_of(feed: Feed, epoch: int = 0) -> list[bytes]:
    """The rows of weight one of an epoch, each as the bytes of all its values, in order."""
    rows = []
    for inputs, target, weight in feed.blocks(epoch):
        assert set(np.unique(weight)) <= {0, 1}
        for batch, row in zip(*np.nonzero(weight), strict=True):
            values = [inputs[name][batch, row] for name in sorted(inputs)] + [target[batch, row]]
            rows.append(b"|".join(v if isinstance(v, bytes) else v.tobytes() for v in values))
    return rows


def all_rows(dataset, split: str = "train") -> list[bytes]:
    held = Feed(dataset, split, 7).arrays()
    target = held.pop("target")
    names = sorted(held)
    cells = ([held[n][i] for n in names] + [target[i]] for i in range(len(target)))
    return [b"|".join(v if isinstance(v, bytes) else v.tobytes() for v in row) for row in cells]


def steps_of(feed: Feed) -> int:
    return sum(len(target) for _, target, _ in feed.blocks(0))


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 200),
    shards=st.integers(1, 5),
    shuffle_rows=st.sampled_from([1, 30, 90, 1000]),
    seed=st.sampled_from([None, 0, 7]),
    epoch=st.integers(0, 3),
)
def test_every_row_exactly_once_on_equally_many_steps(regression, batch, shards, shuffle_rows, seed, epoch):
    _, dataset = regression
    seen, steps = Counter(), set()
    for rank in range(shards):
        feed = Feed(dataset, "train", batch, seed=seed, shard=(rank, shards), shuffle_rows=shuffle_rows)
        rows = rows_of(feed, epoch)
        assert len(rows) == feed.rows
        assert steps_of(feed) == feed.steps
        steps.add(feed.steps)
        seen.update(rows)
    assert seen == Counter(all_rows(dataset))
    assert len(steps) == 1


def test_short_shards_and_batches_are_padded_with_weight_zero(tmp_path):
    # Five even row groups for three shards: two, two and one.
    _, dataset = tiny.build(
        tiny.regression_table(250), tmp_path, "regression", data={"split": {"train": 0.8}, "row_group_size": 42}
    )
    groups = dataset.row_groups("train")
    assert len(groups) == 5
    feeds = [Feed(dataset, "train", 16, shard=(rank, 3)) for rank in range(3)]
    assert [feed.rows for feed in feeds] == [sum(groups[rank::3]) for rank in range(3)]
    assert {feed.steps for feed in feeds} == {-(-feeds[0].rows // 16)}
    blocks = list(feeds[2].blocks(0))
    weight = np.concatenate([w for _, _, w in blocks]).reshape(-1)
    assert weight.size == feeds[2].steps * 16
    np.testing.assert_array_equal(weight, np.arange(weight.size) < feeds[2].rows)
    padding = np.concatenate([x["numbers"] for x, _, _ in blocks]).reshape(weight.size, -1)[weight == 0]
    assert not padding.any()


@pytest.mark.parametrize("shuffle_rows", [1 << 20, 100], ids=["kept", "streaming"])
def test_all_blocks_but_the_last_hold_as_many_batches_as_asked_for(regression, shuffle_rows):
    _, dataset = regression
    feed = Feed(dataset, "train", 16, seed=7, shuffle_rows=shuffle_rows, block_batches=3)
    lengths = [len(weight) for _, _, weight in feed.blocks(0)]
    assert lengths[:-1] == [3] * (len(lengths) - 1) and sum(lengths) == feed.steps
    assert len(list(feed.stream())) == len(lengths) == feed.stream().cardinality().numpy()
    assert rows_of(feed) == rows_of(Feed(dataset, "train", 16, seed=7, shuffle_rows=shuffle_rows, block_batches=3))


def test_no_generator_dataset_changes_how_memory_is_allocated(regression):
    _, dataset = regression
    stages, kinds = [Feed(dataset, "train", 16, seed=7).stream()], set()
    while stages:
        stage = stages.pop()
        kinds.add(type(stage).__name__.strip("_"))
        stages += stage._inputs()
    assert "MapDataset" in kinds and not {kind for kind in kinds if "Generator" in kind or "FlatMap" in kind}


def test_the_end_of_an_epoch_lets_go_of_its_buffers(regression, monkeypatch):
    _, dataset = regression
    ended = []

    def watched(feed, epoch):
        yield from blocks(feed, epoch)
        ended.append(epoch)

    blocks = Feed.blocks
    monkeypatch.setattr(Feed, "blocks", watched)
    feed = Feed(dataset, "train", 16, seed=7, shuffle_rows=100, block_batches=3)
    stream = feed.stream()
    for epoch in range(2):
        feed.epoch = epoch
        assert sum(len(weight) for _, _, weight in stream) == feed.steps
        assert ended == list(range(epoch + 1))


def test_a_feed_with_more_blocks_than_steps_is_an_error(regression, monkeypatch):
    _, dataset = regression
    feed = Feed(dataset, "train", 16, seed=7, block_batches=3)
    twice = 2 * list(feed.blocks(0))
    monkeypatch.setattr(Feed, "blocks", lambda feed, epoch: iter(twice))
    with pytest.raises(Exception, match="more blocks than it said"):
        list(feed.stream())


def test_blocks_of_large_images_hold_fewer_batches(images, monkeypatch):
    _, dataset = images
    monkeypatch.setattr(feed_module, "BLOCK_BYTES", 2 * 50 * 8 * 8)
    feed = Feed(dataset, "train", 50, seed=1)
    assert feed.block_batches == 2
    monkeypatch.setattr(feed_module, "BLOCK_BYTES", 1)
    assert Feed(dataset, "train", 50, seed=1).block_batches == 1


@pytest.mark.parametrize("shuffle_rows", [1 << 20, 100], ids=["kept", "streaming"])
def test_the_order_is_a_function_of_seed_and_epoch(regression, shuffle_rows):
    _, dataset = regression

    def order(seed, epoch):
        return rows_of(Feed(dataset, "train", 16, seed=seed, shuffle_rows=shuffle_rows), epoch)

    first = order(7, 0)
    assert first == order(7, 0)
    assert first != order(7, 1) and first != order(8, 0)
    assert sorted(first) == sorted(order(7, 1)) == sorted(order(8, 0))
    assert order(None, 0) == order(None, 1) == all_rows(dataset)


def test_an_epoch_does_not_depend_on_the_epochs_before(regression):
    _, dataset = regression
    feed = Feed(dataset, "train", 16, seed=7)
    epochs = [rows_of(feed, epoch) for epoch in range(3)]
    assert rows_of(Feed(dataset, "train", 16, seed=7), 2) == epochs[2]
    assert rows_of(feed, 0) == epochs[0]


def test_streaming_mixes_rows_of_several_groups(regression):
    _, dataset = regression
    position = {row: index for index, row in enumerate(all_rows(dataset))}
    places = [position[row] for row in rows_of(Feed(dataset, "train", 16, seed=7, shuffle_rows=200))]
    assert np.ptp(places[:16]) > 2 * max(dataset.row_groups("train"))


def test_batches_have_the_declared_shapes(regression):
    _, dataset = regression
    feed = Feed(dataset, "train", 50, seed=1)
    batches = list(feed.stream().unbatch())
    numbers = len(dataset.preprocessor.names("number"))
    assert len(batches) == feed.steps == -(-dataset.rows["train"] // 50)
    for inputs, target, weight in batches:
        assert {name: (tuple(v.shape), v.dtype.name) for name, v in inputs.items()} == {
            "numbers": ((50, numbers), "float32"),
            "categories": ((50, 1), "int32"),
        }
        assert (tuple(target.shape), target.dtype.name) == ((50,), "float32")
        assert (tuple(weight.shape), weight.dtype.name) == ((50,), "float32")
    assert sum(float(weight.numpy().sum()) for _, _, weight in batches) == dataset.rows["train"]


def test_batches_follow_the_feeds_epoch(regression):
    _, dataset = regression
    feed = Feed(dataset, "train", 600, seed=1)
    batches = feed.stream().unbatch()
    targets = []
    for feed.epoch in (0, 1, 0):
        targets.append(np.concatenate([target.numpy() for _, target, _ in batches]))
    assert (targets[0] == targets[2]).all() and (targets[0] != targets[1]).any()


def test_images_are_decoded_and_padded_with_images(images):
    _, dataset = images
    feed = Feed(dataset, "train", 50, seed=1)
    seen, own = 0, {picture.tobytes() for picture in feed.arrays()["image"]}
    for inputs, target, weight in feed.stream().unbatch():
        assert tuple(inputs["image"].shape) == (50, 8, 8, 1)
        assert inputs["image"].dtype.name == "uint8" and target.dtype.name == "int32"
        pixels, kept = inputs["image"].numpy(), weight.numpy() == 1
        assert {picture.tobytes() for picture in pixels} <= own  # batch normalisation sees nothing else
        assert pixels[kept].max() <= 255
        top, bottom = pixels[kept, :3].mean((1, 2, 3)), pixels[kept, 5:].mean((1, 2, 3))
        classes = np.array(dataset.preprocessor.classes)[target.numpy()[kept]]
        assert set(classes[top > bottom + 75]) <= {"top"} and set(classes[bottom > top + 75]) <= {"bottom"}
        seen += kept.sum()
    assert seen == dataset.rows["train"] and seen % 50  # there was padding


def test_pixels_that_memory_does_not_hold_lie_in_a_file_and_are_decoded_once(images, monkeypatch):
    _, dataset = images
    feed, decoded = Feed(dataset, "train", 50, seed=1), []
    kept = next(iter(feed.in_order()))
    assert kept["image"].dtype == np.uint8 and not isinstance(kept["image"], np.memmap)
    epochs = [rows_of(feed, epoch) for epoch in range(2)]
    monkeypatch.setattr(feed_module, "HELD_BYTES", 4000)  # more than the targets take
    decode = Decoder.decode
    monkeypatch.setattr(Decoder, "decode", lambda decoder, cell: [decoded.append(1), decode(decoder, cell)][1])
    feed_module._of_process.clear()
    other = Feed(dataset, "train", 50, seed=1)
    assert [rows_of(other, epoch) for epoch in range(2)] == epochs
    held = next(iter(other.in_order()))
    assert isinstance(held["image"], np.memmap) and not isinstance(held["target"], np.memmap)
    assert rows_of(Feed(dataset, "train", 50, seed=1), 0) == epochs[0]  # as the next trial of the same process does
    assert len(decoded) == dataset.rows["train"]


def test_too_few_row_groups_are_refused(regression):
    _, dataset = regression
    groups = len(dataset.row_groups("validation"))
    with pytest.raises(BadInput, match=rf"validation split has {groups} row groups for {groups + 1} shards: .*ingest"):
        Feed(dataset, "validation", 8, shard=(0, groups + 1))
