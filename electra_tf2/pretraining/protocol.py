"""The protocol that a generator and a discriminator meet.

Any two Keras models can be trained with replaced-token detection. A network is called with
those of the following arguments that its `call` names; the first one, whatever its name, always
gets the token ids.

    input_ids    int32 [batch, length]    token ids; masked for a generator, corrupted for a
                                          discriminator
    input_mask   int32 [batch, length]    1 for tokens, 0 for padding
    segment_ids  int32 [batch, length]    0 for the first segment, 1 for the second
    positions    int32 [batch, n]         generators only: where to predict; None: everywhere
    training     bool                     whether dropout is on
    seed         int64 [2]                random seed; the same value draws the same numbers

A functional or `keras.Sequential` model gets its inputs by their names (`keras.Input(...,
name="input_ids")`), one at a time or as a list or dict; a single input of any name gets the token
ids.

What comes back:

    generator      float logits [batch, n, vocab_size] if it takes `positions`, else
                   [batch, length, vocab_size], of which the objective keeps the masked positions
    discriminator  float logits [batch, length] or [batch, length, 1]; positive means "replaced"

Tying: hand the same layer object to both models; a shared variable is trained once.

Randomness: a model that takes `seed` draws from it by stateless operations. A model may also
use `keras.layers.Dropout` and anything else built on `keras.random.SeedGenerator`: it then runs
through `stateless_call` with its seed generators set from the step's seed, so that its draws
depend on (run seed, step, replica) only and a resumed run repeats them. Other non-trainable
variables are constants during training; layers that must update them (BatchNormalization) are
refused.

Both models must be built, that is, have their variables.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import keras
import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.modeling.generator import gather_positions
from electra_tf2.pretraining.inputs import Inputs

_TENSORS = ("input_ids", "input_mask", "segment_ids", "positions")


class Network:
    """Calls a Keras model by the protocol.

    Args:
        model: a built Keras model.
        role: "generator" or "discriminator", for error messages.

    Raises:
        UserError: the model is not built, asks for an unknown argument, or has layers whose
            state changes in training.
    """

    def __init__(self, model: keras.Model, role: str):
        self.model = model
        self.role = role
        if not model.built:
            raise UserError(
                f"The {role} has no variables yet.",
                where=f"model {model.name!r}",
                received="a model that is not built",
                remedy="Call it once on token ids, for instance model(np.zeros((1, 8), 'int32')).",
            )
        self._refuse_changing_state()
        self._input_names = _functional_input_names(model)
        self._arguments = self._named_arguments()
        self.takes_positions = "positions" in self._arguments

    def __call__(
        self,
        inputs: Inputs,
        *,
        positions: tf.Tensor | None = None,
        training: bool = False,
        seed: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Runs the model.

        Args:
            inputs: the batch.
            positions: int32 [batch, n] for a generator, or None.
            training: whether dropout is on.
            seed: int64 [2]; needed where `training` is on.

        Returns:
            What the model returned.
        """
        values: dict[str, object] = {**inputs._asdict(), "positions": positions}
        values["training"] = training
        values["seed"] = seed
        if self._input_names is not None:
            args, kwargs = [self._functional_inputs(values)], {"training": training}
        else:
            first, *rest = self._arguments
            args = [values[first]]
            kwargs = {name: values[name] for name in rest}
        if not training or not _seed_generators(self.model):
            return self.model(*args, **kwargs)
        return self._stateless(args, kwargs, seed)

    def _stateless(self, args, kwargs, seed):
        """Runs the model with its seed generators set from `seed`."""
        states = {id(g.state): k for k, g in enumerate(_seed_generators(self.model))}
        non_trainable = []
        for variable in self.model.non_trainable_variables:
            k = states.get(id(variable))
            value = variable.value if k is None else _generator_state(seed, k)
            non_trainable.append(value)
        trainable = [v.value for v in self.model.trainable_variables]
        outputs, _ = self.model.stateless_call(trainable, non_trainable, *args, **kwargs)
        return outputs

    def _functional_inputs(self, values):
        # A Sequential model has one plain input, and `input` only after a symbolic call.
        structure = None if isinstance(self.model, keras.Sequential) else self.model.input
        if len(self._input_names) == 1:
            ids = values["input_ids"]
            if isinstance(structure, Mapping):
                return dict.fromkeys(structure, ids)
            return [ids] if isinstance(structure, list | tuple) else ids
        if isinstance(structure, Mapping):
            return {name: values[name] for name in self._input_names}
        return [values[name] for name in self._input_names]

    def _named_arguments(self) -> list[str]:
        """Names of the values that the model's `call` is given, the first by position."""
        known = (*_TENSORS, "training", "seed")
        if self._input_names is not None:
            unknown = [name for name in self._input_names if name not in _TENSORS]
            if unknown:
                raise UserError(
                    f"The {self.role} has inputs that the protocol does not have.",
                    where=f"model {self.model.name!r}",
                    received=", ".join(unknown),
                    remedy="Name its inputs among " + ", ".join(_TENSORS),
                )
            return [*self._input_names, "training"]
        parameters = list(inspect.signature(self.model.call).parameters.values())
        unknown = [
            p.name
            for p in parameters[1:]
            if p.name not in known
            and p.default is p.empty
            and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        ]
        if unknown or not parameters:
            raise UserError(
                f"The {self.role}'s call asks for arguments that the protocol does not have.",
                where=f"{type(self.model).__name__}.call",
                received=", ".join(unknown) or "no arguments",
                remedy="Name them among " + ", ".join(known) + ", or give them defaults.",
            )
        return ["input_ids"] + [p.name for p in parameters[1:] if p.name in known]

    def _refuse_changing_state(self):
        for layer in self.model._flatten_layers():
            if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
                raise UserError(
                    f"The {self.role} has a layer whose statistics change in training.",
                    where=f"layer {layer.path!r}",
                    received=type(layer).__name__,
                    remedy="Use LayerNormalization, or set the layer's trainable to False.",
                )


class GeneratorNetwork(Network):
    """A generator: returns logits at the asked positions, whether or not its model takes them."""

    def __init__(self, model: keras.Model):
        super().__init__(model, "generator")

    def logits(
        self,
        inputs: Inputs,
        positions: tf.Tensor | None,
        *,
        training: bool,
        seed: tf.Tensor | None,
    ) -> tf.Tensor:
        """Returns float32 logits [batch, n, vocab_size]; everywhere if `positions` is None.

        Raises:
            UserError: the model's output has another shape.
        """
        logits = self(inputs, positions=positions, training=training, seed=seed)
        asked = positions if self.takes_positions and positions is not None else inputs.input_ids
        named = "positions" if asked is positions else "length"
        _check_shape(logits, 3, asked, self, f"[batch, {named}, vocab_size]")
        if not self.takes_positions:
            logits = gather_positions(logits, positions)
        return tf.cast(logits, tf.float32)


class DiscriminatorNetwork(Network):
    """A discriminator: returns one logit a token."""

    def __init__(self, model: keras.Model):
        super().__init__(model, "discriminator")

    def logits(self, inputs: Inputs, *, training: bool, seed: tf.Tensor | None) -> tf.Tensor:
        """Returns float32 logits [batch, length].

        Raises:
            UserError: the model's output has another shape.
        """
        logits = self(inputs, training=training, seed=seed)
        expected = "[batch, length] or [batch, length, 1]"
        if tf.is_tensor(logits) and logits.shape.rank == 3 and logits.shape[-1] == 1:
            logits = tf.squeeze(logits, -1)
        _check_shape(logits, 2, inputs.input_ids, self, expected)
        return tf.cast(logits, tf.float32)


def named_variables(models: Mapping[str, keras.Model]) -> dict[str, keras.Variable]:
    """Names the trainable variables of several models, shared ones once.

    Args:
        models: role -> model, for instance {"generator": …, "discriminator": …}.

    Returns:
        name -> variable, sorted by name. A name is the variable's path, preceded by the role
        where two variables have the same path.
    """
    found: dict[int, tuple[str, keras.Variable]] = {}
    for role, model in models.items():
        for variable in model.trainable_variables:
            found.setdefault(id(variable), (role, variable))
    paths = [variable.path for _, variable in found.values()]
    named = {}
    for role, variable in found.values():
        unique = paths.count(variable.path) == 1
        name = variable.path if unique else f"{role}/{variable.path}"
        serial = 1
        while name in named:
            serial += 1
            name = f"{role}/{variable.path}_{serial}"
        named[name] = variable
    return dict(sorted(named.items()))


def _check_shape(logits, rank, asked, network, expected):
    """Refuses what is not a tensor of `rank` axes, the first two as long as those of `asked`."""
    if tf.is_tensor(logits):
        shape = logits.shape
        if shape.rank == rank and shape[:2].is_compatible_with(asked.shape[:2]):
            return
        received = f"shape {tuple(shape)} for {tuple(asked.shape)}"
    else:
        received = type(logits).__name__
    raise UserError(
        f"The {network.role}'s output has the wrong shape.",
        where=f"{type(network.model).__name__}.call",
        received=received,
        remedy=f"Return logits of shape {expected}.",
    )


def _functional_input_names(model: keras.Model) -> list[str] | None:
    """Names of the inputs of a functional or Sequential model, None for other models."""
    inputs = getattr(model, "inputs", None)
    if not inputs:
        return ["input_ids"] if isinstance(model, keras.Sequential) else None
    if len(inputs) == 1:
        return ["input_ids"]
    return list(model.input) if isinstance(model.input, Mapping) else [t.name for t in inputs]


def _seed_generators(model: keras.Model) -> list[keras.random.SeedGenerator]:
    generators = []
    for layer in model._flatten_layers():
        generators.extend(getattr(layer, "_seed_generators", []))
    return generators


def _generator_state(seed: tf.Tensor, k: int) -> tf.Tensor:
    """State of the k-th seed generator: uint32 [2], a hash of (seed, k)."""
    return tf.random.stateless_uniform(
        [2],
        seed=seed + tf.constant([0, k], tf.int64),
        minval=None,
        maxval=None,
        dtype=tf.uint32,
        alg="philox",
    )
