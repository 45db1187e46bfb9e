"""Calls SavedModels in a process that has TensorFlow and tensorflow-text, and not this package.

    python saved_model_calls.py CALLS RESULTS

CALLS holds a JSON list of [folder, signature, {input: value}]; RESULTS gets a list of {output:
value}.
"""

import json
import pathlib
import sys

import tensorflow as tf
import tensorflow_text  # noqa: F401, the operations that the models use


def main(calls, results):
    models, found = {}, []
    for folder, signature, inputs in json.loads(pathlib.Path(calls).read_text()):
        if folder not in models:
            models[folder] = tf.saved_model.load(folder)
            check_gradient(models[folder])
        tensors = {
            name: tf.constant(value, tf.string if name.endswith("texts") else tf.int32)
            for name, value in inputs.items()
        }
        outputs = models[folder].signatures[signature](**tensors)
        found.append({name: as_json(value) for name, value in outputs.items()})
    assert "electra_tf2" not in sys.modules
    pathlib.Path(results).write_text(json.dumps(found))


def check_gradient(model):
    """The loaded graph can be differentiated: it may be trained further."""
    with tf.GradientTape() as tape:
        outputs = model.signatures["serving_default"](texts=tf.constant(["a text"]))
        kind = next(name for name in ("states", "probabilities") if name in outputs)
        loss = tf.reduce_sum(outputs[kind] ** 2)
    gradients = tape.gradient(loss, model.weights)
    assert sum(gradient is not None for gradient in gradients) > 10


def as_json(value):
    if value.dtype != tf.string:
        return value.numpy().tolist()
    return tf.nest.map_structure(bytes.decode, value.numpy().tolist())


if __name__ == "__main__":
    main(*sys.argv[1:])
