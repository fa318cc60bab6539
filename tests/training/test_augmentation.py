"""Pictures are changed as the config says: alike wherever they are read, in training alone, each as itself."""

import numpy as np
import pytest
import tiny

from baton.config.schema import AUGMENT, Augment
from baton.data.feed import Feed, HeldFeed
from baton.errors import BadInput
from baton.training import augmentation, fit, flips
from baton.training.augmentation import Augmentation
from baton.training.draws import Draws
from baton.training.moves import Moves

ALL = {
    "flip": True, "vertical_flip": True, "shift": 0.2, "rotation": 20, "zoom": 0.2, "crop": 0.3, "contrast": 0.4,
    "brightness": 0.2, "colour": 0.5, "erasing": 0.5, "randaugment": {"operations": 2, "magnitude": 0.8},
}  # fmt: skip


def pictures(count: int = 40, side: int = 16, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Smooth pictures, no two alike."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, side // 4, side // 4, channels))
    return np.kron(coarse, np.ones((1, 4, 4, 1))).astype(np.uint8)


def changed(pixels: np.ndarray, epoch: int = 0, **operations) -> np.ndarray:
    return Augmentation(Augment(**operations), 7, 2)({"image": pixels}, epoch, 8)["image"]


def augmented_rows(feed: Feed, epoch: int) -> dict[bytes, bytes]:
    """{what a row's target and picture are before: what they are after}, the feed asked for both."""
    rows = {}
    after, feed.augmentation = feed.augmentation, None
    plain = list(feed.blocks(epoch))
    feed.augmentation = after
    for (before, target, weight), (now, _, _) in zip(plain, feed.blocks(epoch), strict=True):
        kept = weight > 0
        for key, label, value in zip(before["image"][kept], target[kept], now["image"][kept], strict=True):
            rows[key.tobytes() + bytes([label])] = value.tobytes()
    return rows


def test_workers_micro_batches_and_a_later_start_see_the_same_pictures(images):
    """Shards, other batches and blocks, another order: a row of an epoch is changed in one way."""
    _, dataset = images
    own = Augmentation(Augment(**ALL), 7, 3)
    whole = augmented_rows(Feed(dataset, "train", 16, seed=1, augmentation=own), 3)
    shards = [Feed(dataset, "train", 7, seed=2, shard=(rank, 2), block_batches=3, augmentation=own) for rank in (0, 1)]
    parts = [augmented_rows(shard, 3) for shard in shards]
    assert min(map(len, parts)) > 0 and parts[0] | parts[1] == whole
    held = HeldFeed(dataset, "train", 5, held=next(Feed(dataset, "train", 16).in_order()), augmentation=own)
    assert augmented_rows(held, 3) == whole
    other = augmented_rows(held, 4)
    assert other.keys() == whole.keys() and sum(other[key] != whole[key] for key in whole) > 0.9 * len(whole)


def test_training_goes_on_with_the_pictures_of_the_epoch(images):
    """Two epochs and a third later are three epochs: the same weights, batch normalisation and averages as well."""
    config, dataset = images
    config = config.overridden({"train.augment": {**ALL, "mixup": 0.3}, "train.weight_average": 0.7})
    whole = fit.train(config, dataset)
    assert whole.augmentation["rotation"] == 20 and whole.pictures[0].shape == whole.pictures[1].shape
    assert (whole.pictures[0] != whole.pictures[1]).any(axis=(1, 2, 3)).mean() > 0.9
    again = fit.train(config, dataset)
    assert whole.history == again.history
    plain = fit.train(config.overridden({"train.augment": "none"}), dataset)
    assert plain.history["loss"] != whole.history["loss"] and plain.augmentation == {} and plain.pictures is None


def test_validation_is_seen_as_it_is(images):
    """With a rate near zero, the validation metric of a training is that of the first weights, however it augments."""
    config, dataset = images
    changes = {"train.learning_rate": 1e-12, "train.epochs": 1, "model.batch_normalization": False}
    plain, strong = (
        fit.train(config.overridden({**changes, "train.augment": augment}), dataset) for augment in ("none", ALL)
    )
    assert plain.history["val_log_loss"] == pytest.approx(strong.history["val_log_loss"], rel=1e-5)
    assert plain.history["loss"] != pytest.approx(strong.history["loss"], rel=1e-5)


def test_the_network_knows_of_no_augmentation(images):
    config, dataset = images
    model = fit.train(config.overridden({"train.augment": ALL, "train.epochs": 1}), dataset).model
    assert not [layer for layer in model.layers if "Random" in type(layer).__name__]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [*ALL])
def test_every_operation_changes_pictures_and_keeps_their_shape(name, channels):
    if name == "colour" and channels == 1:
        return  # greys have none
    pixels = pictures(channels=channels)
    after = changed(pixels, **{name: ALL[name]})
    assert after.shape == pixels.shape and after.dtype == np.uint8
    assert (after != pixels).any(axis=(1, 2, 3)).mean() > 0.2
    assert (changed(pixels, epoch=1, **{name: ALL[name]}) != after).any()
    assert (changed(pixels[::-1], **{name: ALL[name]})[::-1] == after).all()


def test_nothing_named_is_nothing_done():
    pixels = pictures()
    assert changed(pixels) is pixels
    assert changed(pixels[:0], **ALL).shape == (0, 16, 16, 3)


def test_flips_are_mirrors_half_the_time():
    pixels = pictures(400)
    across, down = changed(pixels, flip=True), changed(pixels, vertical_flip=True)
    for after, mirrored in ((across, pixels[:, :, ::-1]), (down, pixels[:, ::-1])):
        same, turned = (after == pixels).all(axis=(1, 2, 3)), (after == mirrored).all(axis=(1, 2, 3))
        assert (same | turned).all() and 0.4 < turned.mean() < 0.6


def test_a_shift_is_whole_pixels_with_the_edge_repeated():
    moves = Moves(*(np.zeros(1, kind) for kind in (bool, bool, *[float] * 6)))
    moves.scale[:] = 1
    moves.shift_x[:], moves.shift_y[:] = 2, -1
    picture = np.arange(25, dtype=np.uint8).reshape(1, 5, 5, 1)
    expected = picture[:, [1, 2, 3, 4, 4]][:, :, [0, 0, 0, 1, 2]]
    assert (moves.applied(picture) == expected).all()
    moves.degrees[:] = 1e-7  # resampled
    assert np.abs(moves.applied(picture).astype(int) - expected).max() <= 1


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (-90, 3)])
def test_a_rotation_turns_counter_clockwise_about_the_middle(degrees, turns):
    moves = Moves(*(np.zeros(2, kind) for kind in (bool, bool, *[float] * 6)))
    moves.scale[:], moves.degrees[:] = 1, degrees
    pixels = pictures(2)
    difference = moves.applied(pixels).astype(int) - np.rot90(pixels, turns, axes=(1, 2))
    assert np.abs(difference).max() <= 1


def test_a_flip_and_a_move_are_resampled_as_one():
    """Flipped pixels by the bilinear way are those by the exact one."""
    rng = np.random.default_rng(1)
    exact = Moves(*(np.zeros(9, kind) for kind in (bool, bool, *[float] * 6)))
    exact.scale[:] = 1
    exact.flip_x, exact.flip_y = rng.random(9) < 0.5, rng.random(9) < 0.5
    exact.shift_x, exact.shift_y = rng.integers(-3, 4, 9).astype(float), rng.integers(-3, 4, 9).astype(float)
    pixels = pictures(9)
    resampled = exact._resampled(pixels).astype(int)
    assert np.abs(resampled - exact._by_pixels(pixels)).max() <= 1


def test_tones_are_stretched_about_the_mean():
    pixels = pictures(200, channels=1)
    after = changed(pixels, contrast=0.5).astype(float)
    mean = pixels.mean(axis=(1, 2, 3))
    inside = (after.min(axis=(1, 2, 3)) > 0) & (after.max(axis=(1, 2, 3)) < 255)
    np.testing.assert_allclose(after.mean(axis=(1, 2, 3))[inside], mean[inside], atol=1)
    ratio = after.std(axis=(1, 2, 3)) / pixels.std(axis=(1, 2, 3))
    assert ratio[inside].min() < 0.6 and ratio.max() > 1.1 and ratio.max() < 1.51


def test_mixed_targets_are_the_shares_of_the_pictures():
    """White pictures of one class and black ones of the other: a picture's mean is its target."""
    target = np.arange(64) % 2
    pixels = np.broadcast_to(np.uint8(255 * target)[:, None, None, None], (64, 16, 16, 1)).copy()
    pixels[:, 0, 0, 0] = np.arange(64)  # so that all are drawn for by themselves
    for operations in ({"mixup": 0.8}, {"cutmix": 0.8}, {"mixup": 0.8, "cutmix": 0.8}):
        mixed = Augmentation(Augment(**operations), 7, 2)({"image": pixels, "target": target}, 0, 16)
        shares = mixed["target"]
        assert shares.shape == (64, 2) and shares.dtype == np.float32
        np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
        np.testing.assert_allclose(mixed["image"].mean(axis=(1, 2, 3)) / 255, shares[:, 1], atol=0.01)
        assert ((shares > 0.1) & (shares < 0.9)).any(axis=1).mean() > 0.2


def test_mixed_rows_weigh_as_their_classes_do(images):
    _, dataset = images
    mixing = Augmentation(Augment(mixup=1.0), 7, 3)
    weights = np.array([1.0, 2.0, 4.0])
    feed = Feed(dataset, "train", 50, class_weights=weights, augmentation=mixing)
    for _, target, weight in feed.stream():
        assert target.shape[2:] == (3,)
        np.testing.assert_allclose(weight[weight > 0], (target.numpy() @ weights)[weight > 0], rtol=1e-5)


def test_draws_are_even_and_hang_on_all_that_they_should():
    pixels = pictures(3000, 16, 1)
    draws = Draws(7, 0, pixels)
    assert abs(np.histogram(draws.uniform("a"), 10, (0, 1))[0] / 300 - 1).max() < 0.2
    others = (draws.uniform("b"), Draws(8, 0, pixels).uniform("a"), Draws(7, 1, pixels).uniform("a"))
    assert all(abs(np.corrcoef(draws.uniform("a"), other)[0, 1]) < 0.06 for other in others)
    assert abs(draws.beta("c", 0.4).std() - (1 / (4 * 1.8)) ** 0.5) < 0.02


def halves(rows: int, seed: int, *, sides: bool) -> dict[str, np.ndarray]:
    """Pictures whose class is the side, left or right, that is bright; or whether the middle is."""
    rng = np.random.default_rng(seed)
    target, pixels = rng.integers(0, 2, rows), rng.integers(0, 60, (rows, 16, 16, 1))
    at = rng.integers(0, 8, rows) if not sides else 8 * target
    for picture, start, bright in zip(pixels, at, target, strict=True):
        picture[3:13, start : start + 8] += 80 if sides else 40 + 100 * bright
        picture[3 : 3 + 5 * (1 + bright), start] += 90 * (not sides)
    return {"image": pixels.astype(np.uint8), "target": target}


def test_a_flip_that_changes_classes_is_seen():
    assert not flips.classes_stay(halves(300, 0, sides=True), halves(100, 1, sides=True))


def test_auto_flips_where_the_probe_says_so_and_keeps_its_other_operations(images, monkeypatch):
    config, dataset = images
    feeds = [Feed(dataset, split, 16) for split in ("train", "validation")]
    for stay in (True, False):
        monkeypatch.setattr(flips, "classes_stay", lambda train, validation, stay=stay: stay)
        made = fit.augmentation_of(config, *feeds, fit.SingleProcess())
        assert made.settings == AUGMENT.model_copy(update={"flip": stay})


@pytest.mark.parametrize(
    ("augment", "answer"),
    [
        ("strong", r"train\.augment: must be auto, none or a mapping of flip, .*randaugment\. Received: 'strong'"),
        ({"shfit": 1}, r"train\.augment\.shfit is not a key here\. Allowed: flip, .*Received: 1"),
        ({"shift": 2}, r"train\.augment\.shift: input should be less than 1\. Received: 2"),
        ({"rotation": True}, r"train\.augment\.rotation: true and false are not allowed here"),
        ({"randaugment": {"magnitude": 3}}, r"train\.augment\.randaugment\.magnitude: .*Received: 3"),
    ],
)
def test_what_no_augmentation_is_is_named(augment, answer):
    with pytest.raises(BadInput, match=answer):
        tiny.config("image", train={"augment": augment})
    with pytest.raises(BadInput, match=r"train\.augment: does not go with the task regression"):
        tiny.config("regression", train={"augment": {"flip": True}})


def test_the_module_says_what_it_does():
    assert str(Augmentation(Augment(), 7, 2)) == "not at all"
    assert augmentation.Augmentation(Augment(flip=True, shift=0.1), 7, 2).to_dict() == {"flip": True, "shift": 0.1}
