"""Writing pre-trained networks for transformers."""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from electra_tf2.console import say
from electra_tf2.errors import UserError
from electra_tf2.export.huggingface_card import model_card
from electra_tf2.files import json_bytes, make_dirs, replace_file
from electra_tf2.formats.huggingface_config import CONFIG, architecture_for, huggingface_config
from electra_tf2.formats.huggingface_folder import WEIGHTS
from electra_tf2.formats.huggingface_names import (
    DISCRIMINATOR_HEAD,
    GENERATOR_HEAD,
    HEAD_SHAPES,
    MODERNBERT,
    Architecture,
    added_projection,
    encoder_names,
    encoder_shapes,
    is_kernel,
)
from electra_tf2.formats.huggingface_tokenizer import tokenizer_files
from electra_tf2.formats.match import match_arrays
from electra_tf2.loading.networks import holds, is_two_tower, say_left_out_heads
from electra_tf2.loading.pretrained import (
    Pretrained,
    check_finite,
    embeddings_scope,
    generator_network,
    generator_scope,
)
from electra_tf2.loading.source import Source, TextOptions, open_by_flags
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.outputs import new_folder
from electra_tf2.training.array_files import write_arrays

ENCODER = "electra"
Tensors = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportOptions(TextOptions):
    """What an export leaves to the user.

    Attributes:
        network: which networks; None for all there are.
        architecture: the family of transformers' models; None for the one that fits.
    """

    network: Literal["discriminator", "generator", "both"] | None = None
    architecture: Literal["electra", "bert", "albert", "modernbert"] | None = None


_NETWORKS = ("encoder", "discriminator", "generator")


class ConvertedNetwork(NamedTuple):
    """A network as transformers has it.

    Attributes:
        kind: the network, or the task that it is for; its folder where there are several.
        model_class: the class of transformers that loads it.
        config: the content of config.json.
        tensors: by their names there; kernels may be transposed views.
        notes: what the user has to know of it, full sentences.
        files: path in the model's folder -> content, of further files of JSON.
        max_length: tokens that texts are cut to; None: as many as the network has positions.
    """

    kind: str
    model_class: str
    config: dict[str, Any]
    tensors: Tensors
    notes: tuple[str, ...] = ()
    files: Mapping[str, Any] = {}  # noqa: RUF012 # never changed
    max_length: int | None = None


def export_huggingface(source: str, output: str, options: ExportOptions) -> None:
    """Exports a pre-trained model: its discriminator, its generator, or both.

    Args:
        source: a model of any of the formats that `open_pretrained` reads.
        output: the folder to make. Of several networks each gets a folder in it.
        options: what to export and how.

    Raises:
        UserError: the model can't be read or lacks what was asked for, or the output is not free.
    """
    opened = open_to_export(source, options)
    write_models(opened, networks_of(opened, options), output)


def open_to_export(path: str, options: ExportOptions) -> Source:
    """Opens a model to export.

    Raises:
        UserError: it can't be read, has weights that are not finite, there is no vocabulary or
            another one than the model's, or the options contradict the model's casing.
    """
    source = open_by_flags(path, options)
    check_finite(source.pretrained, source.pretrained.arrays)
    return source


def networks_of(source: Source, options: ExportOptions) -> list[ConvertedNetwork]:
    """Returns the networks that were asked for as transformers has them."""
    there = {
        "discriminator": holds(source.pretrained, DISCRIMINATOR_HEAD),
        "generator": holds(source.pretrained, GENERATOR_HEAD),
    }
    if options.network is None:
        names = [name for name, is_there in there.items() if is_there]
    else:
        names = list(there) if options.network == "both" else [options.network]
    lacking = [name for name in names if not there[name]]
    two_towers = is_two_tower(source.pretrained)
    if lacking:
        found = [name for name, is_there in there.items() if is_there]
        found += ["Electric's two towers, which transformers has no equivalent of"] * two_towers
        raise UserError(
            f"The model has no {lacking[0]} to export.",
            where=source.pretrained.path,
            received=" and ".join(found) or "an encoder alone",
            remedy="Leave --network out for what there is.",
        )
    if two_towers:
        say("The generator is left out: transformers has no equivalent of Electric's two towers.")
    if options.network is None and len(names) > 1 and not _fits(source):
        say(
            "The generator is left out: transformers' ModernBERT has no layer that projects "
            "embeddings to another width."
        )
        names.remove("generator")
    say_left_out_heads(source.pretrained)
    makers = {"discriminator": _discriminator, "generator": _generator}
    models = [makers[name](source, options) for name in names]
    return models or [bare_encoder(source, options)]


def _fits(source: Source) -> bool:
    """Whether there is an equivalent of the generator: a modern one may have none."""
    network = generator_network(source.pretrained, source.network)
    return not network.is_modern or network.embedding_size == network.hidden_size


def bare_encoder(source: Source, options: ExportOptions, *notes: str) -> ConvertedNetwork:
    """Returns the encoder that is kept, without a head.

    Args:
        options: the architecture.
        *notes: why there is no head.
    """
    architecture = architecture_for(source.network, options.architecture)
    tensors = encoder_tensors(source, architecture, with_prefix=False)
    return exported("encoder", "encoder", architecture, source.network, tensors, *notes)


def encoder_tensors(
    source: Source, architecture: Architecture, *, with_prefix: bool = True
) -> Tensors:
    """Returns the tensors of the encoder that is kept by the names of an architecture.

    Raises:
        UserError: some are missing or of another shape; lists them.
    """
    return _tensors(source.pretrained, ENCODER, ENCODER, source.network, architecture, with_prefix)


def exported(
    kind: str,
    purpose: str,
    architecture: Architecture,
    network: TransformerConfig,
    tensors: Tensors,
    *notes: str,
    **config: Any,
) -> ConvertedNetwork:
    """Puts a model together.

    Args:
        kind: see `ConvertedNetwork`.
        purpose: a key of `Architecture.classes`.
        architecture: the family.
        network: the encoder's sizes.
        tensors: all of the model's.
        *notes: see `ConvertedNetwork`.
        **config: more fields of config.json.
    """
    model_class = architecture.classes[purpose]
    content = huggingface_config(architecture, network, model_class, **config)
    return ConvertedNetwork(kind, model_class, content, tensors, notes)


def write_models(source: Source, models: list[ConvertedNetwork], output: str) -> None:
    """Writes models to a folder: one into it, several into folders in it.

    Raises:
        UserError: the output is not free.
    """
    with new_folder(output) as folder:
        for model in models:
            place = folder if len(models) == 1 else posixpath.join(folder, model.kind)
            make_dirs(place)
            _write(source, model, place)
    for model in models:
        place = output if len(models) == 1 else posixpath.join(output, model.kind)
        what = f"the {model.kind}" if model.kind in _NETWORKS else f"the model of {model.kind}"
        say(f"Exported {what} as {model.model_class} to {place}")
        for note in model.notes:
            say(f"  {note}")


def _write(source: Source, model: ConvertedNetwork, folder: str) -> None:
    write_arrays(posixpath.join(folder, WEIGHTS), model.tensors, {"format": "pt"})
    files = {
        **tokenizer_files(
            source.vocabulary,
            source.casing,
            model.max_length or model.config["max_position_embeddings"],
            has_segments=model.config["model_type"] != MODERNBERT,
        ),
        CONFIG: json_bytes(model.config, indent=2),
        "README.md": model_card(source, model).encode(),
        **{name: json_bytes(content, indent=2) for name, content in model.files.items()},
    }
    for name, content in files.items():
        path = posixpath.join(folder, name)
        make_dirs(posixpath.dirname(path))
        replace_file(path, content)


def _discriminator(source: Source, options: ExportOptions) -> ConvertedNetwork:
    architecture = architecture_for(source.network, options.architecture)
    if "discriminator" not in architecture.classes:
        note = (
            f"Without its replaced-token head, which transformers' {architecture.model_type} "
            "models have no equivalent of."
        )
        return bare_encoder(source, options, note)._replace(kind="discriminator")
    tensors = encoder_tensors(source, architecture)
    tensors |= _head(source.pretrained, DISCRIMINATOR_HEAD, source.network, architecture)
    notes, config = (), {}
    if architecture.model_type == MODERNBERT:
        notes = ("The sigmoid of a token's one logit is the probability that it was replaced.",)
        config = {"num_labels": 1, "id2label": {"0": "replaced"}, "label2id": {"replaced": 0}}
    return exported(
        "discriminator", "discriminator", architecture, source.network, tensors, *notes, **config
    )


def _generator(source: Source, options: ExportOptions) -> ConvertedNetwork:
    pretrained = source.pretrained
    network = generator_network(pretrained, source.network)
    try:
        architecture, notes = architecture_for(network, options.architecture), ()
    except UserError:
        if options.network is not None or not holds(pretrained, DISCRIMINATOR_HEAD):
            raise
        architecture = architecture_for(network)
        notes = (f"It does not fit the architecture {options.architecture}.",)
    # Towers that share their embeddings have them with the discriminator's variables.
    scope = generator_scope(pretrained)
    place = (pretrained, scope, embeddings_scope(pretrained, scope), network, architecture)
    if architecture.model_type == "electra" and network.hidden_act != "gelu":
        note = f"Without its masked-LM head: transformers' has GELU, this one {network.hidden_act}."
        tensors = _tensors(*place, with_prefix=False)
        return exported("generator", "encoder", architecture, network, tensors, *notes, note)
    tensors = _tensors(*place) | _head(pretrained, GENERATOR_HEAD, network, architecture)
    return exported(
        "generator", "generator", architecture, network, tensors, *notes, tie_word_embeddings=True
    )


def _tensors(
    pretrained: Pretrained,
    scope: str,
    embeddings_scope: str,
    network: TransformerConfig,
    architecture: Architecture,
    with_prefix: bool = True,
) -> Tensors:
    prefix = architecture.prefix if with_prefix else ""
    names = encoder_names(architecture, network.num_hidden_layers)
    shapes = encoder_shapes(network)
    wanted = {}
    for ours in shapes:
        owner = embeddings_scope if ours.startswith("embeddings/") else scope
        wanted[f"{owner}/{ours}"] = (prefix + names[ours], shapes[ours])
    return _renamed(pretrained, wanted) | added_projection(
        architecture, network.embedding_size, network.hidden_size, prefix
    )


def _head(
    pretrained: Pretrained, scope: str, network: TransformerConfig, architecture: Architecture
) -> Tensors:
    shapes = HEAD_SHAPES[scope](network)
    return _renamed(pretrained, {ours: (architecture.heads[ours], shapes[ours]) for ours in shapes})


def _renamed(pretrained: Pretrained, wanted: Mapping[str, tuple[str, tuple[int, ...]]]) -> Tensors:
    """Takes arrays by their names here, (name there, shape here), and turns kernels round.

    Those of one name there are put one below another.
    """
    shapes = {ours: shape for ours, (_, shape) in wanted.items()}
    arrays = match_arrays(shapes, pretrained.arrays).complete(
        "The model lacks parts of the network to export.",
        where=pretrained.path,
        remedy="Check that its files are complete and its config.json is its own.",
    )
    parts: dict[str, list[np.ndarray]] = {}
    for ours, (theirs, _) in wanted.items():
        array = arrays[ours]
        parts.setdefault(theirs, []).append(array.T if is_kernel(ours) else array)
    return {n: own[0] if len(own) == 1 else np.concatenate(own) for n, own in parts.items()}
