"""TensorFlow SavedModels that take raw strings.

What is exported needs tensorflow and tensorflow-text, not this package:

    import tensorflow as tf
    import tensorflow_text  # noqa: F401, its operations

    model = tf.saved_model.load("exported")
    model.signatures["encode"](texts=tf.constant(["A ship."]))["states"]
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from electra_tf2.errors import UserError
from electra_tf2.files import native, replace_file
from electra_tf2.loading.folder import VOCABULARY
from electra_tf2.loading.networks import (
    Noise,
    build_discriminator,
    build_encoder,
    build_generator,
    has_discriminator,
    has_encoder,
    has_generator,
    log_noise,
    open_noise,
    say_left_out_heads,
)
from electra_tf2.loading.source import Source, TextOptions, open_by_flags
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.outputs import new_folder
from electra_tf2.text.graph import Features, GraphTokenizer
from electra_tf2.text.vocabulary import Vocabulary

TEXTS = tf.TensorSpec([None], tf.string, "texts")
SECOND_TEXTS = tf.TensorSpec([None], tf.string, "second_texts")
IDS = tuple(
    tf.TensorSpec([None, None], tf.int32, name)
    for name in ("input_ids", "input_mask", "segment_ids")
)
_POSITIONS = tf.TensorSpec([None, None], tf.int32, "positions")
_CANDIDATES = 5


class Signature(NamedTuple):
    """One way to call a SavedModel.

    Attributes:
        function: tensors, in the order of `inputs` -> output name -> tensor.
        inputs: names, types and shapes.
    """

    function: Callable[..., Mapping[str, tf.Tensor]]
    inputs: tuple[tf.TensorSpec, ...]


Signatures = dict[str, Signature]
States = Callable[[Features], tf.Tensor]


def export_saved_model(source: str, output: str, options: TextOptions | None = None) -> None:
    """Exports the networks of a pre-trained model.

    Signatures, of those networks that the model has (texts are string [batch]; a row of tokens has
    [CLS] and [SEP], and `mask` is 0 at padding):

        encode(texts), encode_pairs(texts, second_texts), encode_ids(input_ids, input_mask,
            segment_ids): states [batch, length, hidden_size], input_ids, mask
        detect(texts), detect_pairs(…), detect_ids(…): probabilities [batch, length] that a token
            was replaced, tokens, input_ids, mask
        score(texts), of Electric: scores [batch], the pseudo-log-likelihood in nats
        fill_mask(texts): tokens and probabilities [batch, masks, 5], the likeliest for each [MASK];
            tokens are "" where a text has fewer of them than another
        generate_ids(input_ids, input_mask, segment_ids, positions): logits [batch, n, vocab_size]

    A model that knows one segment (type_vocab_size 1) has none for pairs. `serving_default` is
    encode, or fill_mask for a generator alone. The assets hold the vocabulary.

    Args:
        source: anything that `open_pretrained` reads.
        output: the folder to make.
        options: vocabulary and casing, for a model that does not say.

    Raises:
        UserError: the model can't be read, or the folder can't be made.
    """
    opened = open_by_flags(source, options)
    signatures, networks = _pretrained_signatures(opened)
    signatures = of_segments(signatures, opened.network)
    default = "encode" if "encode" in signatures else "fill_mask"
    save(output, signatures, networks, opened.tokenizer.vocabulary, default)


def save(
    output: str,
    signatures: Signatures,
    networks: Iterable[keras.Model],
    vocabulary: Vocabulary,
    default: str,
    assets: Mapping[str, str] | None = None,
) -> None:
    """Writes a SavedModel.

    Args:
        output: the folder to make.
        signatures: how it can be called.
        networks: have all variables that the signatures use.
        vocabulary: becomes the asset vocab.txt.
        default: the signature that is `serving_default` too.
        assets: more files, name -> text.

    Raises:
        UserError: the folder can't be made, or its name is not UTF-8.
    """
    if native(output) != output:
        raise UserError(
            "TensorFlow writes SavedModels to folders with names in UTF-8 only.",
            where="--output",
            received=output,
            remedy="Give a folder with another name, all folders above it included.",
        )
    module = module_with(networks)
    functions = {
        name: tf.function(
            signature.function, input_signature=signature.inputs, autograph=False
        ).get_concrete_function()
        for name, signature in signatures.items()
    }
    texts = {VOCABULARY: vocabulary.text, **(assets or {})}
    with new_folder(output) as folder:
        sources = posixpath.join(folder, "asset_sources")
        tf.io.gfile.makedirs(sources)
        for name, text in texts.items():
            replace_file(posixpath.join(sources, name), text.encode())
        module.files = [tf.saved_model.Asset(posixpath.join(sources, name)) for name in texts]
        tf.saved_model.save(
            module,
            folder,
            {**functions, "serving_default": functions[default]},
            tf.saved_model.SaveOptions(experimental_custom_gradients=False),
        )
        tf.io.gfile.rmtree(sources)
        _forget_custom_gradients(posixpath.join(folder, "saved_model.pb"))


def module_with(networks: Iterable[keras.Model]) -> Any:
    """Returns a `tf.Module` with the networks' variables: what it holds is saved with it."""
    module: Any = tf.Module()
    variables = {id(v): v.value for network in networks for v in network.variables}
    module.weights = list(variables.values())
    return module


def _forget_custom_gradients(path: str) -> None:
    """Lets gradients through a graph be those of its operations.

    The fused operations have gradients of their own, which are not in the file. Loading would warn
    of each, and a gradient would fail, although the operations that they are made of have some.
    """
    graph = saved_model_pb2.SavedModel()
    with tf.io.gfile.GFile(path, "rb") as file:
        graph.ParseFromString(file.read())
    for part in graph.meta_graphs:
        functions = (function.node_def for function in part.graph_def.library.function)
        for nodes in (part.graph_def.node, *functions):
            for node in nodes:
                node.attr.pop("_gradient_op_type", None)
    replace_file(path, graph.SerializeToString(deterministic=True))


def _pretrained_signatures(source: Source) -> tuple[Signatures, list[keras.Model]]:
    """Returns the signatures of a model's networks, and the networks."""
    tokenizer = GraphTokenizer(source.tokenizer)
    length = source.network.max_position_embeddings
    pretrained, encoder = source.pretrained, None
    say_left_out_heads(pretrained)
    signatures: Signatures = {}
    networks: list[keras.Model] = []
    if has_discriminator(pretrained):
        discriminator = build_discriminator(source)
        encoder, states = discriminator.encoder, _states(discriminator.encoder)
        noise = open_noise(source, "float32", encoder)
        signatures |= _detection(tokenizer, discriminator.head, states, noise, length)
        signatures |= _encoding(tokenizer, states, length)
        networks += [discriminator, *([noise.generator] if noise else [])]
    elif has_encoder(pretrained) or not has_generator(pretrained):
        encoder = build_encoder(source)
        signatures |= _encoding(tokenizer, _states(encoder), length)
        networks.append(encoder)
    if has_generator(pretrained):
        generator = build_generator(source, encoder=encoder)
        signatures |= _generation(tokenizer, generator, length)
        networks.append(generator)
    return signatures, networks


def encoder_signatures(source: Source, encoder: keras.Model) -> Signatures:
    """Returns the signatures of a model's encoder, see `export_saved_model`."""
    length = source.network.max_position_embeddings
    signatures = _encoding(GraphTokenizer(source.tokenizer), _states(encoder), length)
    return of_segments(signatures, source.network)


def features_of(input_ids: tf.Tensor, input_mask: tf.Tensor, segment_ids: tf.Tensor) -> Features:
    """Names the three tensors that every network takes."""
    return {"input_ids": input_ids, "input_mask": input_mask, "segment_ids": segment_ids}


def on_features(
    name: str, tokenizer: GraphTokenizer, max_length: int, run: Callable[[Features], Any]
) -> Signatures:
    """Makes of a function of features a signature `<name>_ids`, and `<name>` and `<name>_pairs`.

    Args:
        name: of the signatures.
        tokenizer: makes features of texts.
        max_length: longest row.
        run: features, see `GraphTokenizer.rows` -> output name -> tensor.
    """
    shared = tf.function(run, autograph=False)  # traced once, for all three

    def texts(texts):
        return shared(tokenizer.rows(tokenizer(texts), max_length))

    def pairs(texts, second_texts):
        same = tf.debugging.assert_equal(
            tf.shape(texts), tf.shape(second_texts), "texts and second_texts differ in number"
        )
        with tf.control_dependencies([same]):
            first, second = tokenizer(texts), tokenizer(second_texts)
        return shared(tokenizer.rows(first, max_length, second=second))

    def ids(*tensors):
        return shared(features_of(*tensors))

    return {
        name: Signature(texts, (TEXTS,)),
        f"{name}_pairs": Signature(pairs, (TEXTS, SECOND_TEXTS)),
        f"{name}_ids": Signature(ids, IDS),
    }


def of_segments(signatures: Signatures, network: TransformerConfig) -> Signatures:
    """Leaves out the signatures for pairs where a network knows one segment."""
    if network.type_vocab_size > 1:
        return signatures
    return {name: own for name, own in signatures.items() if SECOND_TEXTS not in own.inputs}


def _states(encoder: keras.Model) -> States:
    def run(features: Features) -> tf.Tensor:
        return encoder(features["input_ids"], features["input_mask"], features["segment_ids"])

    return tf.function(run, autograph=False)  # traced once, for all signatures


def _encoding(tokenizer: GraphTokenizer, states_of: States, length: int) -> Signatures:
    def encode(features: Features) -> dict[str, tf.Tensor]:
        mask, states = features["input_mask"], states_of(features)
        states *= tf.expand_dims(tf.cast(mask, states.dtype), 2)  # which TFLite has, too
        return {"states": states, "input_ids": features["input_ids"], "mask": mask}

    return on_features("encode", tokenizer, length, encode)


def _detection(
    tokenizer: GraphTokenizer,
    head: keras.layers.Layer,
    states_of: States,
    noise: Noise | None,
    length: int,
) -> Signatures:
    # Ids from outside may lie beyond the pieces, where the table of embeddings is padded.
    tokens, pieces = tf.concat([tokenizer.tokens, [""]], 0), len(tokenizer.vocabulary)

    def logits_of(features: Features) -> tf.Tensor:
        return head(states_of(features))

    def detect(features: Features) -> dict[str, tf.Tensor]:
        ids, mask = features["input_ids"], features["input_mask"]
        logits = logits_of(features)
        if noise is not None:
            logits += log_noise(noise, features)
        return {
            "probabilities": tf.sigmoid(logits) * tf.cast(mask, tf.float32),
            "tokens": tf.where(mask > 0, tf.gather(tokens, tf.minimum(ids, pieces)), ""),
            "input_ids": ids,
            "mask": mask,
        }

    def score(features: Features) -> dict[str, tf.Tensor]:
        special = [tokenizer.vocabulary.cls_id, tokenizer.vocabulary.sep_id]
        ordinary = tf.reduce_all(features["input_ids"][:, :, tf.newaxis] != special, axis=-1)
        counted = features["input_mask"] * tf.cast(ordinary, tf.int32)
        return {"scores": -tf.reduce_sum(logits_of(features) * tf.cast(counted, tf.float32), 1)}

    signatures = on_features("detect", tokenizer, length, detect)
    if noise is not None:
        signatures["score"] = on_features("score", tokenizer, length, score)["score"]
    return signatures


def _generation(tokenizer: GraphTokenizer, generator: keras.Model, length: int) -> Signatures:
    best = min(_CANDIDATES, len(tokenizer.vocabulary))

    @tf.function(autograph=False)
    def generate(input_ids, input_mask, segment_ids, positions) -> dict[str, tf.Tensor]:
        logits = generator(input_ids, input_mask, segment_ids, positions=positions)
        return {"logits": logits}

    def fill_mask(texts: tf.Tensor) -> dict[str, tf.Tensor]:
        features = tokenizer.rows(tokenizer.with_masks(texts), length)
        places = tf.where(features["input_ids"] == tokenizer.vocabulary.mask_id)
        ragged: Any = tf.RaggedTensor  # its stub lacks the constructors
        positions = ragged.from_value_rowids(
            tf.cast(places[:, 1], tf.int32), places[:, 0], nrows=tf.shape(texts, tf.int64)[0]
        )
        ids, mask, segments = (features[n] for n in ("input_ids", "input_mask", "segment_ids"))
        logits = generate(ids, mask, segments, positions.to_tensor())["logits"]
        logits = logits[:, :, : len(tokenizer.vocabulary)]  # the table may be padded
        probabilities, found = tf.math.top_k(tf.nn.softmax(logits), best)
        there = tf.ones_like(positions).to_tensor()[..., tf.newaxis] > 0
        return {
            "tokens": tf.where(there, tf.gather(tokenizer.tokens, found), ""),
            "probabilities": tf.where(there, probabilities, 0.0),
        }

    return {
        "fill_mask": Signature(fill_mask, (TEXTS,)),
        "generate_ids": Signature(generate, (*IDS, _POSITIONS)),
    }
