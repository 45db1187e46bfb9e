"""The networks of a checkpoint: sizes from what it states or holds, weights by name."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from electra_tf2.console import say
from electra_tf2.errors import UserError, first_of
from electra_tf2.formats.match import match_arrays
from electra_tf2.loading.pretrained import (
    Pretrained,
    check_finite,
    embeddings_scope,
    generator_network,
    generator_scope,
)
from electra_tf2.loading.source import Source
from electra_tf2.modeling.attention import Direction
from electra_tf2.modeling.electra import Discriminator, Generator, TwoTowerGenerator
from electra_tf2.modeling.embeddings import Embeddings
from electra_tf2.modeling.encoder import Encoder
from electra_tf2.modeling.heads import MaskedLMHead, ReplacedTokenHead
from electra_tf2.modeling.layers import weights_follow


class WeightLoader:
    """Gives layers their weights, one layer after another, and lists what is missing.

    A weight that was handed over is in memory once: the checkpoint's array becomes a view of the
    variable. Where each layer is built just before it is given its weights, opening a model takes
    hardly more memory than its file.

    Example:
        loader = WeightLoader(pretrained)
        loader.build("electra", encoder)
        loader.give("discriminator_predictions", head)
        loader.check()
    """

    def __init__(self, pretrained: Pretrained):
        self._pretrained = pretrained
        self._known: set[int] = set()
        self._given: list[str] = []
        self._problems: list[str] = []

    def build(self, scope: str, encoder: Encoder) -> None:
        """Builds an encoder part by part, each with its weights.

        Args:
            scope: of the encoder in the checkpoint.
            encoder: parts of it that are built already, such as embeddings that it shares, keep
                what they have.
        """
        for layer, input_shape in encoder.parts():
            if not layer.built:
                with keras.name_scope(encoder.name), weights_follow():
                    layer.build(input_shape)
                self.give(f"{scope}/{layer.name}", layer)
        encoder.build()

    def give(self, scope: str, layer: keras.layers.Layer) -> None:
        """Gives a built layer its weights.

        Args:
            scope: of the layer in the checkpoint.
            layer: variables of it that another layer was given before are left as they are.
        """
        arrays = self._pretrained.arrays
        for variable in layer.trainable_variables:
            if id(variable) in self._known:
                continue
            self._known.add(id(variable))
            # A layer that was built within another has a path that begins with that one's.
            name = f"{scope}/{variable.path.removeprefix(f'{layer.path}/')}"
            match = match_arrays({name: variable.shape}, arrays)
            self._problems += match.problems
            array = match.found.get(name)
            if array is not None:
                self._given.append(name)
                variable.assign(array)
                if array.dtype == variable.dtype:
                    arrays[name] = _view(variable)

    def check(self) -> None:
        """Makes sure that every variable was given a value, and a finite one.

        Raises:
            UserError: some were missing, of another shape or not finite; names them.
        """
        if not self._problems:
            check_finite(self._pretrained, self._given)
            return
        raise UserError(
            "The checkpoint lacks parts of the network.",
            where=self._pretrained.path,
            received=first_of(self._problems),
            remedy="Check that all of the model's files are there, and its sizes in config.json.",
        )


def _view(variable: keras.Variable) -> np.ndarray:
    """Returns a variable's value, read-only and, on the CPU, without a copy of it.

    TensorFlow leaves a buffer that is seen elsewhere as it is, whatever is assigned later.
    """
    value: Any = tf.convert_to_tensor(variable.value)  # a buffer, which its stub doesn't say
    return np.asarray(memoryview(value))


_ENCODER, _DETECTOR = "electra", "discriminator_predictions"
_MASKED_LM = "generator_predictions"
_LEFT, _RIGHT, _CLOZE = "generator_ltr", "generator_rtl", "cloze_predictions"

Shared = dict[str, Embeddings]
"""Scope in a checkpoint -> built embeddings."""


def holds(pretrained: Pretrained, scope: str) -> bool:
    """Whether a checkpoint has weights below a scope."""
    return any(name.startswith(f"{scope}/") for name in pretrained.arrays)


def has_discriminator(pretrained: Pretrained) -> bool:
    """Whether a checkpoint holds a whole discriminator."""
    return holds(pretrained, _DETECTOR) and has_encoder(pretrained)


def has_encoder(pretrained: Pretrained) -> bool:
    """Whether a checkpoint holds the network that is kept after pre-training."""
    blocks = re.compile(rf"{_ENCODER}/(layer_\d+|shared_layer)/")
    return any(map(blocks.match, pretrained.arrays))


def has_generator(pretrained: Pretrained) -> bool:
    """Whether a checkpoint holds a generator, or a masked language model."""
    return holds(pretrained, _MASKED_LM) or is_two_tower(pretrained)


def is_two_tower(pretrained: Pretrained) -> bool:
    """Whether a checkpoint's generator is Electric's."""
    return holds(pretrained, _CLOZE)


def say_left_out_heads(pretrained: Pretrained) -> None:
    """Says so where an export of the networks leaves the heads of tasks out."""
    if holds(pretrained, "task_specific"):
        say("The heads of tasks are left out: this export has the networks alone.")


def build_encoder(source: Source, dtype: str = "float32") -> Encoder:
    """Builds the encoder that is kept after pre-training, with its weights.

    Args:
        dtype: Keras dtype policy.

    Raises:
        UserError: the checkpoint lacks it or some of its variables.
    """
    if not has_encoder(source.pretrained):
        raise _lacks(source.pretrained, "discriminator and no encoder")
    encoder = Encoder(source.network, dtype=dtype, name=_ENCODER)
    loader = WeightLoader(source.pretrained)
    loader.build(_ENCODER, encoder)
    loader.check()
    return encoder


def build_discriminator(source: Source, dtype: str = "float32") -> Discriminator:
    """Builds the discriminator with its weights; arguments as `build_encoder`."""
    if not has_discriminator(source.pretrained):
        raise _lacks(source.pretrained, "discriminator")
    encoder = build_encoder(source, dtype)
    head = ReplacedTokenHead(source.network, dtype=dtype, name=_DETECTOR)
    head.build((None, None, source.network.hidden_size))
    loader = WeightLoader(source.pretrained)
    loader.give(_DETECTOR, head)
    loader.check()
    discriminator = Discriminator(encoder, head, dtype=dtype, name="discriminator")
    discriminator.build()
    return discriminator


def build_generator(
    source: Source, dtype: str = "float32", encoder: Encoder | None = None
) -> Generator | TwoTowerGenerator:
    """Builds the generator with its weights.

    That is the small network beside a discriminator, Electric's two towers, or, where the encoder
    itself was trained as a masked language model, that one.

    Args:
        dtype: Keras dtype policy.
        encoder: from `build_encoder`, to share with the generator what the two have in common.

    Raises:
        UserError: the checkpoint lacks it or some of its variables.
    """
    pretrained = source.pretrained
    if not has_generator(pretrained):
        raise _lacks(pretrained, "generator")
    loader = WeightLoader(pretrained)
    shared: Shared = {}
    if encoder:
        shared[f"{_ENCODER}/embeddings"] = encoder.embeddings
        loader.give(_ENCODER, encoder)
    if is_two_tower(pretrained):
        return _build_two_towers(source, dtype, shared, loader)
    scope = generator_scope(pretrained)
    if scope == _ENCODER and encoder:
        tower = encoder
    else:
        tower = _build_tower(source, scope, "both", dtype, shared, loader)
    head = _build_head(tower, tower.config.hidden_size, _MASKED_LM, dtype)
    loader.give(_MASKED_LM, head)
    loader.check()
    generator = Generator(tower, head, dtype=dtype, name="generator")
    generator.build()
    return generator


def _build_two_towers(
    source: Source, dtype: str, shared: Shared, loader: WeightLoader
) -> TwoTowerGenerator:
    left = _build_tower(source, _LEFT, "left_to_right", dtype, shared, loader)
    right = _build_tower(source, _RIGHT, "right_to_left", dtype, shared, loader)
    width = left.config.hidden_size + right.config.hidden_size
    head = _build_head(left, width, _CLOZE, dtype)
    loader.give(_CLOZE, head)
    loader.check()
    generator = TwoTowerGenerator(left, right, head, dtype=dtype, name="two_tower_generator")
    generator.build()
    return generator


def _build_tower(
    source: Source,
    scope: str,
    direction: Direction,
    dtype: str,
    shared: Shared,
    loader: WeightLoader,
) -> Encoder:
    """Builds the encoder of a scope, with the `shared` embeddings or some that are added there."""
    owner = embeddings_scope(source.pretrained, scope)
    config = generator_network(source.pretrained, source.network, scope)
    name = f"{owner}/embeddings"
    if name not in shared:
        shared[name] = Embeddings(config, dtype=dtype, name="embeddings")
        with weights_follow():
            shared[name].build()
        loader.give(name, shared[name])
    tower = Encoder(config, embeddings=shared[name], direction=direction, dtype=dtype, name=scope)
    loader.build(scope, tower)
    return tower


def _build_head(tower: Encoder, width: int, name: str, dtype: str) -> MaskedLMHead:
    head = MaskedLMHead(tower.config, tower.embeddings, dtype=dtype, name=name)
    head.build((None, None, width))
    return head


def _lacks(pretrained: Pretrained, part: str) -> UserError:
    scopes = sorted({name.partition("/")[0] for name in pretrained.arrays})
    return UserError(
        f"The checkpoint holds no {part}.",
        where=pretrained.path,
        received="weights of " + first_of(scopes, separator=", "),
        remedy="Give a model that holds one.",
    )


class _Objective(NamedTuple):
    """Hparams of training, as they are taken to be where nothing beside the weights says them."""

    electric_objective: bool = True
    mask_prob: float | list = 0.15
    phases: list[dict[str, Any]] | None = None

    @property
    def last_mask_prob(self) -> Any:
        """The share that the training ended with."""
        return (self.phases or [{}])[-1].get("mask_prob", self.mask_prob)


class Noise(NamedTuple):
    """Where the replacements that Electric was trained to find came from.

    Attributes:
        generator: proposed them.
        mask_prob: share of the tokens that were replaced.
    """

    generator: TwoTowerGenerator
    mask_prob: float


def log_noise(noise: Noise, batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """What Electric's logits have in addition: log q(token) + log(p / (1 - p)).

    Args:
        noise: the generator q, and the masking probability p.
        batch: `input_ids`, `input_mask` and `segment_ids`.

    Returns:
        float32 [batch, length].
    """
    return token_log_probs(noise.generator, batch) + math.log(
        noise.mask_prob / (1.0 - noise.mask_prob)
    )


def token_log_probs(generator: TwoTowerGenerator, batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Log-probability of every token by a generator that does not see it, [batch, length]."""
    ids = batch["input_ids"]
    logits = generator(ids, batch["input_mask"], batch["segment_ids"])
    return -tf.nn.sparse_softmax_cross_entropy_with_logits(labels=ids, logits=logits)


def open_noise(source: Source, dtype: str, encoder: Encoder) -> Noise | None:
    """Loads the generator of a model that was trained with Electric's objective.

    The hparams say so; a checkpoint without them but with both towers is taken for Electric's.

    Args:
        dtype: Keras dtype policy.
        encoder: the discriminator's, to share with the generator what the two have in common.

    Returns:
        None if it was trained with another objective.
    """
    trained = source.trained_with(_Objective)
    if not is_two_tower(source.pretrained) or not trained.electric_objective:
        return None
    mask_prob = trained.last_mask_prob
    if not isinstance(mask_prob, int | float) or not 0 < mask_prob < 1:
        raise UserError(
            "The stored configuration does not say how many tokens were replaced.",
            where=f"{source.pretrained.config_path}, hparams.mask_prob",
            received=mask_prob,
            remedy="Restore the file.",
        )
    return Noise(build_generator(source, dtype, encoder), mask_prob)
