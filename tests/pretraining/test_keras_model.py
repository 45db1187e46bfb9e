"""A pair as a Keras model: compile, fit, evaluate, predict."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.pretraining.fit import PretrainingModel
from electra_tf2.pretraining.replaced_token_detection import Options
from tests.pretraining import fit_runs
from tests.pretraining.networks import LENGTH, VOCAB, counting_rows

BATCH = 16
FIGURES = {
    "loss",
    "generator_loss",
    "discriminator_loss",
    "masked_lm_accuracy",
    "sampled_masked_lm_accuracy",
    "disc_accuracy",
    "disc_precision",
    "disc_recall",
    "disc_auc",
}


def ids(n_steps=1):
    return counting_rows(n_steps)["input_ids"].reshape(-1, LENGTH)


def compiled(optimizer="sgd", *, compile_options=None, **options):
    """A model; without options it runs eagerly, as a few steps are faster than a graph."""
    model = fit_runs.model(**options)
    model.compile(optimizer, **(compile_options or {"run_eagerly": True}))
    return model


IN_A_GRAPH = {"run_eagerly": False}


def weights(model):
    return {name: v.numpy() for name, v in model.objective.named_variables().items()}


@pytest.fixture(scope="module")
def trained():
    """A model that was trained for 100 steps, and the history."""
    optimizer = keras.optimizers.Adam(0.01)
    model = compiled(optimizer, dropout=0.1, compile_options=IN_A_GRAPH)
    data = tf.data.Dataset.from_tensor_slices(ids(25)).batch(BATCH, drop_remainder=True)
    history = model.fit(data, epochs=4, verbose=0, validation_data=ids(4)).history
    return model, history


def test_fit_learns_and_its_history_has_all_figures(trained):
    model, history = trained
    assert set(history) == FIGURES | {f"val_{name}" for name in FIGURES}
    assert history["val_disc_auc"][-1] > history["val_disc_auc"][0] + 0.1
    assert history["val_disc_auc"][-1] > 0.75
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    total = np.add(history["generator_loss"], 50 * np.array(history["discriminator_loss"]))
    np.testing.assert_allclose(history["loss"], total, rtol=1e-5)
    assert int(model.steps.numpy()) == 100


def test_evaluations_mask_alike_every_time(trained):
    model, history = trained
    scores = [model.evaluate(ids(4), verbose=0, return_dict=True) for _ in range(2)]
    assert scores[0] == scores[1]
    for name in FIGURES:
        assert scores[0][name] == pytest.approx(history[f"val_{name}"][-1], abs=1e-5), name


def test_evaluate_is_the_mean_over_all_tokens(trained):
    """Of the batches' results by the objective itself, the last one smaller."""
    model, _ = trained
    rows = fit_runs.rows_of_unequal_length()
    scores = model.evaluate(rows, batch_size=5, verbose=0, return_dict=True)
    tokens, sums = 0, {"disc_accuracy": 0.0, "discriminator_loss": 0.0}
    for step, first in enumerate(range(0, len(rows), 5)):
        part = rows[first : first + 5]
        result = model.objective(part, step=step, seed=1 << 32, training=False)
        tokens += (part > 0).sum()
        for name in sums:
            sums[name] += (part > 0).sum() * float(getattr(result, name))
    for name, value in sums.items():
        assert scores[name] == pytest.approx(value / tokens, rel=1e-5), name


def test_predict_gives_the_discriminators_logits(trained):
    model, _ = trained
    rows = fit_runs.rows_of_unequal_length()
    expected = model.discriminator(rows)[..., 0]
    np.testing.assert_allclose(model.predict(rows, verbose=0), expected, rtol=1e-5, atol=1e-6)
    batch = {"input_ids": rows, "input_mask": (rows > 0).astype(int)}
    np.testing.assert_allclose(model.predict(batch, verbose=0), expected, rtol=1e-5, atol=1e-6)


def test_a_step_is_that_of_the_objective():
    """The same masks, samples, dropout and gradient as the objective in a loop of one's own."""
    rows = ids()
    model = compiled(keras.optimizers.SGD(0.1), dropout=0.2)
    objective, variables = model.objective, model.objective.trainable_variables
    before = weights(model)
    with tf.GradientTape() as tape:
        result = objective(rows, step=0)
    gradients = tape.gradient(result.loss, [v.value for v in variables])
    history = model.fit(rows, batch_size=len(rows), shuffle=False, verbose=0).history
    assert history["loss"] == [pytest.approx(float(result.loss), rel=1e-5)]
    after = weights(model)
    for (name, old), gradient in zip(before.items(), gradients, strict=True):
        expected = old - 0.1 * tf.convert_to_tensor(gradient)
        np.testing.assert_allclose(after[name], expected, rtol=1e-4, atol=1e-6, err_msg=name)


def test_several_steps_in_one_call_train_alike():
    rows = ids(4)
    fit = {"batch_size": BATCH, "shuffle": False, "verbose": 0}
    expected = compiled().fit(rows, **fit).history
    found = compiled(compile_options={"steps_per_execution": 2}).fit(rows, **fit).history
    for name in FIGURES:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, err_msg=name)


def test_the_dict_of_three_and_ids_alone_are_the_same():
    rows = fit_runs.rows_of_unequal_length()
    mask = (rows > 0).astype(np.int64)
    batch = {"input_ids": rows, "input_mask": mask, "segment_ids": 0 * mask}
    forms = [rows, batch, tf.data.Dataset.from_tensor_slices(batch).batch(32)]
    histories = [compiled().fit(x, shuffle=False, verbose=0).history for x in forms]
    assert histories[0] == histories[1] == histories[2]


def test_a_run_goes_on_with_the_draws_of_the_undisturbed_one(tmp_path):
    rows = ids(2)
    fit = {"batch_size": BATCH, "shuffle": False, "verbose": 0}
    whole = compiled(dropout=0.2)
    expected = whole.fit(rows, epochs=2, **fit).history
    first = compiled(dropout=0.2)
    first.fit(rows, **fit)
    first.save_weights(tmp_path / "model.weights.h5")
    second = compiled(dropout=0.2)
    second.load_weights(tmp_path / "model.weights.h5")
    assert int(second.steps.numpy()) == 2
    assert second.fit(rows, **fit).history["loss"] == expected["loss"][1:]
    for name, value in weights(second).items():
        np.testing.assert_array_equal(value, weights(whole)[name], err_msg=name)


def test_options_and_a_hidden_layer():
    model = compiled(
        options=Options(gen_weight=0.0, disc_weight=7.0),
        discriminator_layer="discriminator_states",
    )
    before = weights(model)
    assert "replaced_token_head/kernel" in before and "discriminator/dense" not in str(before)
    history = model.fit(ids(), verbose=0).history
    assert history["loss"][0] == pytest.approx(7 * history["discriminator_loss"][0], rel=1e-5)
    head = weights(model)["replaced_token_head/kernel"]
    assert (head != before["replaced_token_head/kernel"]).any()
    only_generator = compiled(options=Options(disc_weight=0.0))
    figures = only_generator.fit(ids(), verbose=0).history
    assert set(figures) == {name for name in FIGURES if not name.startswith("disc_")}


def test_the_discriminator_is_saved_by_itself(trained, tmp_path):
    model, _ = trained
    model.discriminator.save(tmp_path / "discriminator.keras")
    loaded = keras.models.load_model(tmp_path / "discriminator.keras")
    np.testing.assert_allclose(loaded(ids()), model.discriminator(ids()), rtol=1e-6)
    with pytest.raises(UserError, match="isn't saved as a whole") as error:
        model.save(tmp_path / "whole.keras")
    assert "model.discriminator.save" in error.value.remedy


def test_a_loss_is_refused():
    with pytest.raises(UserError, match="loss and metrics already") as error:
        compiled(compile_options={"loss": "mse"})
    assert error.value.received == "loss"


@pytest.mark.parametrize("run", ["fit", "evaluate"])
def test_ids_outside_of_the_vocabulary_are_refused(run):
    rows = ids()
    rows[3, 5] = VOCAB
    with pytest.raises(UserError, match="not in the generator's vocabulary") as error:
        getattr(compiled(compile_options=IN_A_GRAPH), run)(rows, verbose=0)
    assert str(VOCAB) in error.value.received


def test_batches_of_another_form_are_refused():
    with pytest.raises(UserError, match="rows of token ids"):
        compiled().fit(np.ones((4, LENGTH), np.float32), verbose=0)
    with pytest.raises(UserError, match="rows of another length"):
        compiled().fit(ids()[:, :9], verbose=0)
    with pytest.raises(UserError, match="^The batch is not made of rows of token ids"):
        compiled().predict(np.ones((4, LENGTH), np.float32), verbose=0)


@pytest.mark.slow
def test_two_replicas_are_one_device():
    """Rows of unequal length, a last batch that is smaller, and gradients that are clipped."""
    one, two = fit_runs.results()["one"], fit_runs.results()["two"]
    for name, values in one["history"].items():
        np.testing.assert_allclose(two["history"][name], values, rtol=1e-4, err_msg=name)
    for name, value in one["scores"].items():
        assert two["scores"][name] == pytest.approx(value, rel=1e-4), name
    for name, value in one["weights"].items():
        np.testing.assert_allclose(two["weights"][name], value, rtol=1e-3, atol=1e-5)
    assert one["history"]["loss"][-1] < one["history"]["loss"][0]


@pytest.mark.slow
def test_dropout_on_two_replicas():
    one, two = fit_runs.results()["one"], fit_runs.results()["two, dropout"]
    assert np.isfinite(two["history"]["loss"]).all()
    assert two["history"]["loss"][0] != pytest.approx(one["history"]["loss"][0], rel=1e-3)


def test_averages_of_the_weights_stay_with_their_weights():
    """Keras pairs the optimizer's variables with the model's by their places."""
    model = compiled(keras.optimizers.SGD(1e-9, use_ema=True, ema_momentum=0.5))
    before = weights(model)
    model.fit(ids(2), batch_size=BATCH, verbose=0)
    for name, value in weights(model).items():
        np.testing.assert_allclose(value, before[name], atol=1e-5, err_msg=name)


def test_rows_of_another_length_make_another_graph():
    """Of these networks, which are made for one length, the message is then the right one."""
    model = compiled(compile_options=IN_A_GRAPH)
    model.predict(ids(1), verbose=0)
    with pytest.raises(UserError, match="made for rows of another length"):
        model.predict(ids(1)[:, : LENGTH // 2], verbose=0)


def test_one_model_takes_rows_of_several_lengths():
    """`fit` with validation data of another length, in a graph, then the other way round."""
    tokens = keras.Input((None,), dtype="int32")
    states = keras.layers.Embedding(VOCAB, 4)(tokens)
    generator = keras.Model(tokens, keras.layers.Dense(VOCAB)(states))
    discriminator = keras.Model(tokens, keras.layers.Dense(1)(states))
    model = PretrainingModel(generator, discriminator, fit_runs.MASKING)
    model.compile("sgd")
    whole, half = ids(2), ids(2)[:, : LENGTH // 2]
    for train, held_out in ((whole, half), (half, whole)):
        history = model.fit(train, epochs=2, validation_data=(held_out,), verbose=0).history
        assert np.isfinite(history["loss"] + history["val_loss"]).all()
        assert model.predict(held_out, verbose=0).shape == held_out.shape


@pytest.mark.parametrize(
    "options",
    [{"y": np.ones((BATCH, LENGTH))}, {"sample_weight": np.ones(BATCH)}, {"class_weight": {0: 1}}],
    ids=lambda options: next(iter(options)),
)
def test_labels_and_weights_are_refused(options):
    with pytest.raises(UserError, match="makes its own labels and weights"):
        compiled().fit(ids(1)[:BATCH], batch_size=BATCH, verbose=0, **options)


def test_a_mask_in_a_tuple_is_refused():
    rows = ids(1)
    data = tf.data.Dataset.from_tensor_slices((rows, np.ones_like(rows))).batch(BATCH)
    with pytest.raises(UserError, match="makes its own labels"):
        compiled().fit(data, verbose=0)


def test_the_whole_is_not_saved_over_a_file(tmp_path):
    model, path = compiled(), tmp_path / "model.keras"
    path.write_text("mine")
    with pytest.raises(UserError, match="isn't saved as a whole"):
        model.save(path)
    checkpoint = keras.callbacks.ModelCheckpoint(str(path))
    with pytest.raises(UserError, match="isn't saved as a whole"):
        model.fit(ids(1), verbose=0, callbacks=[checkpoint])
    assert path.read_text() == "mine"


def test_ids_outside_of_the_vocabulary_in_a_single_batch():
    model = compiled()
    for run in (model.train_on_batch, model.test_on_batch, model.predict_on_batch, model.predict):
        with pytest.raises(UserError, match="vocabulary"):
            run(ids(1) + VOCAB)


def test_parts_of_several_scopes_are_refused():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    outside = fit_runs.pair(0.0)
    with strategy.scope():
        with pytest.raises(UserError, match="scope of one strategy"):
            PretrainingModel(*outside, fit_runs.MASKING)
        inside = fit_runs.pair(0.0)
        model = PretrainingModel(*inside, fit_runs.MASKING)
    with pytest.raises(UserError, match="scope of one strategy") as error:
        PretrainingModel(*inside, fit_runs.MASKING)
    assert error.value.where == inside[0].name
    with pytest.raises(UserError, match="scope of one strategy") as error:
        model.compile(keras.optimizers.Adam())
    assert error.value.where == "optimizer"
