"""Features of a frozen base: what they are, that they are computed once, and by whom."""

import keras
import numpy as np
import pytest

from baton.data.feed import Feed
from baton.networks.backbones import block_ends
from baton.training.transfer import features
from baton.training.transfer.features import Extractor


@pytest.fixture
def extractor(base, striped):
    _, dataset = striped
    yield Extractor(base)
    for file in (dataset.folder / features.FOLDER).glob("*"):
        file.unlink()


def test_features_are_means_of_the_maps_at_each_depth(extractor, base, striped):
    _, dataset = striped
    feed = Feed(dataset, "train", 16)
    found = extractor.features(feed)
    pixels = feed.arrays()["image"].astype(np.float32)
    ends = [base.get_layer(name).output for name in block_ends(base)]
    expected = [maps.numpy().mean(axis=(1, 2)) for maps in keras.Model(base.inputs[0], ends)(pixels)]
    assert len(found) == len(expected) >= 3
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    mirrored = extractor.features(feed, flipped=True)[-1]
    np.testing.assert_allclose(
        mirrored, keras.Model(base.inputs[0], ends)(pixels[:, :, ::-1])[-1].numpy().mean(axis=(1, 2)), atol=1e-4
    )


def test_the_same_rows_and_base_meet_once(extractor, base, striped, monkeypatch):
    _, dataset = striped
    first = extractor.features(Feed(dataset, "train", 16))
    computed = []
    compute = Extractor._computed
    monkeypatch.setattr(Extractor, "_computed", lambda *args: computed.append(args) or compute(*args))
    twin = keras.models.clone_model(base, clone_function=_renamed)
    assert features.digest(twin) != features.digest(base)
    twin.set_weights(base.get_weights())
    again = Extractor(twin).features(Feed(dataset, "train", 16))
    assert not computed and all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert len(Extractor(twin).features(Feed(dataset, "train", 16), most=5)[0]) == 5 and not computed
    assert len(Extractor(twin).features(Feed(dataset, "train", 16), flipped=True)[0]) == 60 and computed


def _renamed(layer):
    return type(layer).from_config({**layer.get_config(), "name": f"other_{layer.name}"})


def test_what_is_damaged_is_computed_anew(extractor, striped, caplog):
    _, dataset = striped
    feed = Feed(dataset, "validation", 16)
    first = extractor.features(feed)
    (file,) = (dataset.folder / features.FOLDER).glob("*-validation-*")
    file.write_bytes(file.read_bytes()[:200])
    assert np.array_equal(extractor.features(feed)[-1], first[-1]) and "damaged" in caplog.text
    assert features._read(file, feed.rows) is not None


def test_shards_are_computed_by_those_who_have_them_or_taken_from_the_whole(extractor, striped, monkeypatch):
    _, dataset = striped
    shards = [Feed(dataset, "train", 16, shard=(rank, 2)) for rank in range(2)]
    computed = [extractor.features(shard)[-1] for shard in shards]
    for file in (dataset.folder / features.FOLDER).glob("*"):
        file.unlink()
    whole = extractor.features(Feed(dataset, "train", 16))[-1]
    monkeypatch.setattr(Extractor, "_computed", None)
    for shard, own in zip(shards, computed, strict=True):
        np.testing.assert_allclose(extractor.features(shard)[-1], own, atol=1e-5)
        assert 0 < len(own) == shard.rows < len(whole)
