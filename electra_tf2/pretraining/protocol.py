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
ids. Names that other libraries have for the same things are understood too: `token_ids`,
`attention_mask` and `padding_mask`, `token_type_ids`.

What comes back:

    generator      float logits [batch, n, vocab_size] if it takes `positions`, else
                   [batch, length, vocab_size], of which the objective keeps the masked positions
    discriminator  float logits [batch, length] or [batch, length, 1]; positive means "replaced".
                   With `discriminator_layer`, anything: the output of the layer of that name,
                   [batch, length, width], is taken instead, and a Dense(1) put on top

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

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import keras
import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.modeling.electra import gather_positions
from electra_tf2.pretraining.batch import Inputs

# Checks of what a user makes an objective of, and of what the user's models return.


def check_output(
    output: Any,
    shape: tuple[int | None, ...],
    asked: tf.Tensor,
    network: Network,
    expected: str,
    where: str | None = None,
) -> None:
    """Refuses what is not a floating-point tensor of a shape.

    Args:
        output: what a model, or a layer of it, returned.
        shape: None stands for any known length.
        asked: the token ids or positions [batch, n] that it was given.
        expected: the shape in words.
        where: the layer; None: the model itself.

    Raises:
        UserError: it has another shape, an unknown rank, no gradient, or is not a tensor.
    """
    if tf.is_tensor(output):
        fits = output.shape.is_compatible_with(shape)
        # A batch or a length may be unknown in a graph; the last axis of three never.
        known = output.shape.rank is not None and (len(shape) < 3 or output.shape[-1])
        if fits and known and output.dtype.is_floating:
            return
        if output.shape.rank is None:
            received = "a tensor of unknown rank"
        elif not output.dtype.is_floating:
            received = f"{output.dtype.name}, which has no gradient"
        else:
            given = f"for token ids or positions {tuple(asked.shape)}"
            received = f"shape {tuple(output.shape)} {given}"
    else:
        received = "nothing" if output is None else type(output).__name__
    raise UserError(
        f"The {network.role}'s output has the wrong shape or type.",
        where=where or network.where,
        received=received,
        remedy=f"Return {'states' if where else 'logits'} of shape {expected}, floating-point.",
    )


# Takes the output of a layer inside a model, whatever kind of model it is.


def find_layer(model: keras.Model, name: str) -> keras.layers.Layer:
    """Finds a layer at any depth of a discriminator.

    Args:
        name: the layer's name, or its path where several layers have that name.

    Raises:
        UserError: no layer, or more than one, is called so.
    """
    layers = {id(layer): layer for layer in model._flatten_layers(include_self=False)}.values()
    found = [layer for layer in layers if layer.path == name]
    found = found or [layer for layer in layers if layer.name == name]
    if len(found) == 1:
        return found[0]
    names = sorted({layer.path or layer.name for layer in found or layers})
    raise UserError(
        f"The discriminator has {'several layers' if found else 'no layer'} of that name.",
        where=f"discriminator_layer, model {model.name!r}",
        received=name,
        remedy="Choose one of: " + ", ".join(names),
    )


@contextlib.contextmanager
def recorded(layer: keras.layers.Layer) -> Iterator[list]:
    """Records what a layer returns.

    Keras has no hook for it. The layer's `call` is replaced on the instance alone, and restored.

    Args:
        layer: of a model that is called inside the `with` block.

    Yields:
        A list to which every output is appended.
    """
    outputs: list = []
    own = vars(layer).get("call")
    call = layer.call

    def recording(*args, **kwargs):
        outputs.append(call(*args, **kwargs))
        return outputs[-1]

    # Past the tracking of attributes, which would take the function for a part of the layer.
    object.__setattr__(layer, "call", recording)
    try:
        yield outputs
    finally:
        if own is None:
            object.__delattr__(layer, "call")
        else:
            object.__setattr__(layer, "call", own)


_TENSORS = ("input_ids", "input_mask", "segment_ids", "positions")
# KerasHub's and transformers' names.
_OTHER_NAMES = {
    "token_ids": "input_ids",
    "attention_mask": "input_mask",
    "padding_mask": "input_mask",
    "token_type_ids": "segment_ids",
}


class Network:
    """Calls a Keras model by the protocol.

    Args:
        model: a built Keras model.
        role: "generator" or "discriminator", for error messages.

    Raises:
        UserError: the model is not built, asks for an unknown argument, or has layers whose
            state changes in training.
    """

    def __init__(self, model: keras.Model, role: Literal["generator", "discriminator"]):
        self.model = model
        self.role = role
        if not model.built:
            raise UserError(
                f"The {role} has no variables yet.",
                where=f"model {model.name!r}",
                received="a model that is not built",
                remedy="Call it once on token ids, for instance model(np.zeros((1, 8), 'int32')).",
            )
        self.where = f"{type(model).__name__}.call, model {model.name!r}"
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
        values |= {other: values[name] for other, name in _OTHER_NAMES.items()}
        values["training"] = training
        values["seed"] = seed
        if self._input_names is not None:
            self._check_length(inputs)
            args = [self._functional_inputs(self._input_names, values)]
            kwargs = {"training": training}
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
        return self.model.stateless_call(trainable, non_trainable, *args, **kwargs)[0]

    def _functional_inputs(self, names: list[str], values):
        # A Sequential model has one plain input, and `input` only after a symbolic call.
        structure = None if isinstance(self.model, keras.Sequential) else self.model.input
        if len(names) == 1:
            ids = values["input_ids"]
            if isinstance(structure, Mapping):
                return dict.fromkeys(structure, ids)
            return [ids] if isinstance(structure, list | tuple) else ids
        if isinstance(structure, Mapping):
            return {name: values[name] for name in names}
        return [values[name] for name in names]

    def _named_arguments(self) -> list[str]:
        """Names of the values that the model's `call` is given, the first by position."""
        known = (*_TENSORS, *_OTHER_NAMES, "training", "seed")
        if self._input_names is not None:
            unknown = [name for name in self._input_names if name not in known]
            if self.role == "discriminator":  # it judges every token
                unknown += [name for name in self._input_names if name == "positions"]
            if unknown:
                raise UserError(
                    f"The {self.role} has inputs that the protocol does not have.",
                    where=f"model {self.model.name!r}",
                    received=", ".join(unknown),
                    remedy="Name its inputs among "
                    + ", ".join((*_TENSORS, *_OTHER_NAMES))
                    + "; positions are a generator's.",
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
        by_name = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
        if unknown or not parameters or parameters[0].kind in by_name:
            raise UserError(
                f"The {self.role}'s call asks for arguments that the protocol does not have.",
                where=self.where,
                received=", ".join(unknown) or "no argument by position for the token ids",
                remedy="Take token ids first, and name the others among "
                + ", ".join(known)
                + ", or give them defaults.",
            )
        return ["input_ids"] + [p.name for p in parameters[1:] if p.name in known]

    def _check_length(self, inputs):
        """Refuses rows of another length than that of a functional model's inputs."""
        length, expected = inputs.input_ids.shape[1], self.input_length
        if None not in (length, expected) and length != expected:
            raise UserError(
                f"The {self.role} is made for rows of another length.",
                where=self.where,
                received=f"rows of {length} tokens for inputs of {expected}",
                remedy="Make its inputs by keras.Input((None,), …) or as long as the rows.",
            )

    @property
    def input_length(self) -> int | None:
        """The length of the rows that a functional model is made for; None if it takes any."""
        first = (getattr(self.model, "inputs", None) or [None])[0]
        return None if first is None or len(first.shape) < 2 else first.shape[1]

    def _refuse_changing_state(self):
        changing = (keras.layers.BatchNormalization, keras.layers.SpectralNormalization)
        for layer in self.model._flatten_layers():
            if isinstance(layer, changing) and layer.trainable:
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

    @property
    def vocab_size(self) -> int | None:
        """The last axis of a functional model's logits; None if only a call can tell."""
        outputs = getattr(self.model, "outputs", None) or []
        return outputs[0].shape[-1] if len(outputs) == 1 else None

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
        expected = f"[batch, {named}, vocab_size]"
        check_output(logits, (*asked.shape[:2], None), asked, self, expected)
        if not self.takes_positions:
            logits = gather_positions(logits, positions)
        return tf.cast(logits, tf.float32)


class DiscriminatorNetwork(Network):
    """A discriminator: returns one logit a token.

    Args:
        model: the model.
        layer: name of the layer whose output is taken instead of the model's, with a Dense(1)
            upon it.

    Attributes:
        head: that Dense; None without `layer`.
        unused: the model's variables that the layer's output doesn't depend on.

    Raises:
        UserError: there is no such layer, or its output is not [batch, length, width].
    """

    def __init__(self, model: keras.Model, layer: str | None = None):
        super().__init__(model, "discriminator")
        self.head: keras.layers.Dense | None = None
        self.unused: list[keras.Variable] = []
        self._layer = None
        if layer is not None:
            self._layer = find_layer(model, layer)
            width = self._look_at_layer()
            self.head = keras.layers.Dense(1, name="replaced_token_head")
            self.head.build((None, None, width))

    def logits(self, inputs: Inputs, *, training: bool, seed: tf.Tensor | None) -> tf.Tensor:
        """Returns float32 logits [batch, length].

        Raises:
            UserError: the model's output has another shape.
        """
        if self.head is None:
            logits = self(inputs, training=training, seed=seed)
        else:
            logits = self.head(self._states(inputs, training, seed))
        expected = "[batch, length] or [batch, length, 1]"
        if tf.is_tensor(logits) and logits.shape.rank == 3 and logits.shape[-1] == 1:
            logits = tf.squeeze(logits, -1)
        ids = inputs.input_ids
        check_output(logits, tuple(ids.shape), ids, self, expected)
        return tf.cast(logits, tf.float32)

    def _states(self, inputs, training, seed) -> tf.Tensor:
        """The layer's output [batch, length, width]; the last one, if it runs several times."""
        assert self._layer is not None
        with recorded(self._layer) as outputs:
            self(inputs, training=training, seed=seed)
        states: Any = outputs[-1] if outputs else None
        states = states[0] if isinstance(states, tuple | list) and states else states
        where = f"output of layer {self._layer.path!r}"
        ids = inputs.input_ids
        expected = "[batch, length, width], or choose another layer as discriminator_layer"
        check_output(states, (*ids.shape, None), ids, self, expected, where)
        return states

    def _look_at_layer(self) -> int:
        """Returns the width of the layer's output, and finds what it does not depend on."""
        variables = self.model.trainable_variables
        # Of a variable that several replicas have, the first copy: it is the one that is read here.
        copies = tf.distribute.get_strategy().experimental_local_results
        first_copies = [copies(v.value)[0] for v in variables]
        found = {}

        # Traced, never run: the shapes are all that is needed, and runs may be costly.
        @tf.function(
            autograph=False,
            input_signature=[tf.TensorSpec([1, self.input_length], tf.int32)],
        )
        def trace(ids):
            inputs = Inputs(ids, tf.ones_like(ids), tf.zeros_like(ids))
            with tf.GradientTape() as tape:
                states = self._states(inputs, False, None)
            gradients = tape.gradient(states, first_copies)
            found["unused"] = [g is None for g in gradients]
            found["width"] = states.shape[-1]
            return states

        trace.get_concrete_function()
        self.unused = [v for v, u in zip(variables, found["unused"], strict=True) if u]
        return found["width"]


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
        minval=None,  # pyright: ignore[reportArgumentType] # all integers; its stub lacks this
        maxval=None,
        dtype=tf.uint32,
        alg="philox",
    )
