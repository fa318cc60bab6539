"""An ensemble as one network: what it answers, saved and loaded, of which member it is explained."""

import keras
import numpy as np
import pytest

from baton.networks import costs, ensemble, layers, prediction


def network(seed: int, last: str = "softmax") -> keras.Model:
    keras.utils.set_random_seed(seed)
    numbers, categories = keras.Input((3,), name="numbers"), keras.Input((1,), dtype="int32", name="categories")
    embedded = layers.CategoryEmbedding([4], 2)(categories)
    hidden = keras.layers.Dense(4, "relu")(keras.layers.Concatenate()([numbers, embedded]))
    answer = keras.layers.Dense(3 if last == "softmax" else 1, last, name="output")(hidden)
    return keras.Model([numbers, categories], answer)


ROWS = {
    "numbers": np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32),
    "categories": np.arange(7, dtype=np.int32)[:, None] % 4,
}


@pytest.mark.parametrize("last", ["softmax", "linear"])
def test_answers_are_the_weighted_mean_also_of_members_of_members_and_after_loading(last, tmp_path):
    members = [network(seed, last) for seed in (1, 2, 3)]
    if last == "softmax":
        members[1] = layers.calibrated(members[1], 2.0)
    each = [prediction.predict(member, ROWS) for member in members]
    inner = ensemble.combined(members[:2], [0.25, 0.75])
    outer = ensemble.combined([inner, members[2]], [0.6, 0.4])
    wanted = 0.6 * (0.25 * each[0] + 0.75 * each[1]) + 0.4 * each[2]
    np.testing.assert_allclose(prediction.predict(outer, ROWS), wanted, rtol=1e-5)
    keras.Model(outer.inputs, outer.outputs[0]).save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras", safe_mode=True)
    np.testing.assert_allclose(prediction.predict(loaded, ROWS), wanted, rtol=1e-5)
    explained = prediction.predict(ensemble.main_member(loaded), ROWS)
    np.testing.assert_allclose(explained, each[1], rtol=1e-5)
    assert ensemble.main_member(members[0]) is members[0]


def test_it_costs_what_its_members_cost_together():
    inputs = keras.Input((3,), name="numbers")
    one, other = (keras.Model(inputs, keras.layers.Dense(units)(inputs)) for units in (2, 2))
    both = ensemble.combined([one, other], [0.5, 0.5])
    assert costs.totals(costs.layer_costs(both)) == (16, 12)
