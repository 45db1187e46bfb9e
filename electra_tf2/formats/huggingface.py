"""Reading Hugging Face models: a discriminator, a generator, both, or a bare encoder."""

from __future__ import annotations

import posixpath
from typing import NamedTuple

import numpy as np

from electra_tf2.errors import UserError
from electra_tf2.files import exists
from electra_tf2.formats.huggingface_config import (
    CONFIG,
    model_class_of,
    network_of,
    read_huggingface_config,
)
from electra_tf2.formats.huggingface_folder import (
    is_huggingface_folder,
    model_folder_of,
    read_tensors,
)
from electra_tf2.formats.huggingface_names import (
    ARCHITECTURES,
    GENERATOR_HEAD,
    HEAD_SHAPES,
    Architecture,
    added_projection,
    encoder_names,
    encoder_shapes,
    is_kernel,
    is_not_needed,
    modern_name,
)
from electra_tf2.formats.huggingface_tokenizer import read_tokenizer, vocabulary_file
from electra_tf2.formats.match import match_arrays
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.text.normalization import Casing
from electra_tf2.text.vocabulary import load_vocabulary, vocabulary_difference

PAIR_FOLDERS = ("discriminator", "generator")
"""Where a folder with both networks has them."""

_MISFIT = {
    "what": "The Hugging Face model's tensors are not those that its config.json describes.",
    "remedy": "Check that both files are of one model, and that it is an encoder of the type that "
    "config.json says.",
}
Arrays = dict[str, np.ndarray]


class HuggingFaceModel(NamedTuple):
    """One or two networks that belong together.

    Attributes:
        path: of the weights' file; of both, joined by a comma.
        folder: where vocabulary and tokenizer lie.
        arrays: by our names. The encoder that is fine-tuned is "electra", of a model with a
            masked-LM head alone that model's; beside a discriminator the generator's encoder is
            "generator", without embeddings where they are the discriminator's.
        network: the sizes of "electra".
        generator: the sizes of the masked LM; None if there is none.
        casing: of its text; None if unknown.
        left_over: names of tensors that were not taken over.
    """

    path: str
    folder: str
    arrays: Arrays
    network: TransformerConfig
    generator: TransformerConfig | None
    casing: Casing | None
    left_over: tuple[str, ...]


class _Part(NamedTuple):
    """One folder; `encoder` has its paths without scope, `heads` with theirs."""

    path: str
    folder: str
    model_type: str
    encoder: Arrays
    heads: Arrays
    network: TransformerConfig
    casing: Casing | None
    left_over: tuple[str, ...]

    @property
    def is_generator(self) -> bool:
        scopes = {name.partition("/")[0] for name in self.heads}
        return scopes == {GENERATOR_HEAD}


def huggingface_folders(path: str) -> tuple[str, ...]:
    """Returns the folders of the Hugging Face models that a path means; () if it means none.

    Args:
        path: a folder, a weights file in it, a folder that holds the folders `discriminator` and
            `generator` (or one of them), or two folders joined by a comma.
    """
    given = [path]
    if not exists(path):
        given = [part.strip() for part in path.split(",") if part.strip()]
    if len(given) == 1 and not is_huggingface_folder(given[0]):
        given = [posixpath.join(given[0], name) for name in PAIR_FOLDERS]
        given = [folder for folder in given if is_huggingface_folder(folder)]
    if not any(is_huggingface_folder(folder) for folder in given):
        return ()
    return tuple(model_folder_of(folder) for folder in given)


def open_huggingface(folders: tuple[str, ...]) -> HuggingFaceModel:
    """Reads one model, or a discriminator and its generator, from `huggingface_folders`.

    Raises:
        UserError: a file is missing or damaged, tensors are missing, unknown or misshapen, the
            model computes what ours does not, or two models don't belong together.
    """
    for folder in folders:
        if not is_huggingface_folder(folder):
            raise UserError(
                "There is no Hugging Face model.",
                where=",".join(folders),
                received=f"no config.json or model.safetensors in {folder}",
                remedy="Give one folder, or two joined by a comma.",
            )
    parts = [_read(folder) for folder in folders]
    if len(parts) == 1:
        (part,) = parts
        is_generator = any(name.startswith(f"{GENERATOR_HEAD}/") for name in part.heads)
        generator = part.network if is_generator else None
        arrays = _scoped("electra", part.encoder) | part.heads
        return HuggingFaceModel(
            part.path, part.folder, arrays, part.network, generator, part.casing, part.left_over
        )
    return _joined(parts)


def _read(folder: str) -> _Part:
    config = read_huggingface_config(folder)
    network = network_of(config, posixpath.join(folder, CONFIG))
    path, tensors = read_tensors(folder, model_class_of(config))
    casing = read_tokenizer(folder)
    architecture = ARCHITECTURES[config["model_type"]]
    tensors = _by_modern_names(tensors, path)
    _resolve_copies(architecture, tensors, path)
    encoder, heads = _translated(architecture, network, tensors, path)
    # ELECTRA's masked-LM head has GELU whatever the encoder's activation is.
    needs_gelu = architecture.model_type == "electra" and f"{GENERATOR_HEAD}/output_bias" in heads
    if needs_gelu and network.hidden_act != "gelu":
        raise UserError(
            "The Hugging Face model computes something that this program does not.",
            where=posixpath.join(folder, CONFIG),
            received=f"hidden_act {network.hidden_act!r} and gelu in the masked-LM head",
            remedy="Here both have one activation: such a generator can't be taken over.",
        )
    return _Part(
        path,
        folder,
        architecture.model_type,
        encoder,
        heads,
        network,
        casing,
        tuple(sorted(tensors)),
    )


def _by_modern_names(tensors: Arrays, path: str) -> Arrays:
    renamed: Arrays = {}
    for name, array in tensors.items():
        if modern_name(name) in renamed:
            problem = f"{modern_name(name)} is there by an old name too"
            raise UserError(**_MISFIT, where=path, received=problem)
        renamed[modern_name(name)] = array
    return renamed


def _resolve_copies(architecture: Architecture, tensors: Arrays, path: str) -> None:
    """Takes away the copies of tied tensors, which have to be equal to what they are tied to."""
    for copy, original in architecture.copies.items():
        array = tensors.pop(copy, None)
        if array is None:
            continue
        if not np.array_equal(array, tensors.setdefault(original, array)):
            raise UserError(
                "The Hugging Face model's output layer is not tied to its embeddings.",
                where=path,
                received=f"{copy} differs from {original}",
                remedy="Here they are one table: such a model can't be taken over.",
            )


def _translated(
    architecture: Architecture, network: TransformerConfig, tensors: Arrays, path: str
) -> tuple[Arrays, Arrays]:
    """Takes the encoder and the heads out of `tensors`, which keeps what is left over."""
    prefix = architecture.prefix
    if not any(name.startswith(prefix) for name in tensors):
        prefix = ""  # a bare encoder
    shapes = encoder_shapes(network)
    theirs = encoder_names(architecture, network.num_hidden_layers)
    wanted = {ours: prefix + theirs[ours] for ours in shapes}
    heads = {}
    for scope, shapes_of in HEAD_SHAPES.items():
        names = {o: t for o, t in architecture.heads.items() if o.startswith(f"{scope}/")}
        if any(name in tensors for name in names.values()):
            heads |= names
            shapes |= shapes_of(network)
    names = wanted | heads
    match = match_arrays(
        {t: shapes[n][:: -1 if is_kernel(n) else 1] for n, t in names.items()}, tensors
    )
    for name in names.values():
        tensors.pop(name, None)
    problems = [f"{n} {p}" for n, array in match.found.items() if (p := _problem(array))]
    if not match.problems:
        problems += _unlike_added(architecture, network, tensors, prefix)
    parts = (prefix,) if prefix else ("embeddings.", "embeddings_project.", "encoder.")
    extra = [name for name in tensors if name.startswith(parts) and not is_not_needed(name)]
    problems += [f"{name} has no place in the encoder" for name in sorted(extra)]
    found = match.complete(**_MISFIT, where=path, more=problems)
    encoder, head = (
        {ours: found[t].T if is_kernel(ours) else found[t] for ours, t in part.items()}
        for part in (wanted, heads)
    )
    return encoder, head


def _problem(array: np.ndarray) -> str | None:
    """Says why a tensor can't be taken over; None if it can."""
    if array.dtype != np.float32:
        return f"has the type {array.dtype}, which weights don't have"
    return None if np.isfinite(array).all() else "has values that are not finite"


def _unlike_added(
    architecture: Architecture, network: TransformerConfig, tensors: Arrays, prefix: str
) -> list[str]:
    """Takes away a projection that has to change nothing; says what of it is otherwise."""
    added = added_projection(architecture, network.embedding_size, network.hidden_size, prefix)
    return [
        f"{name} is not that of the identity, and embeddings are as wide as states"
        for name, needed in added.items()
        if not np.array_equal(tensors.pop(name, np.empty(0)), needed)
    ]


def _joined(parts: list[_Part]) -> HuggingFaceModel:
    """Puts a discriminator and a generator together, whichever comes first."""
    generators = [part for part in parts if part.is_generator]
    others = [part for part in parts if not part.is_generator]
    if len(generators) != 1 or len(others) != 1:
        raise UserError(
            "The Hugging Face models are not a discriminator and its generator.",
            where=",".join(part.path for part in parts),
            received=f"{len(generators)} with a masked-LM head alone among {len(parts)} models",
            remedy="Give one model, or a discriminator and a generator joined by a comma.",
        )
    (generator,), (main,) = generators, others
    _check_pair(main, generator)
    own, shared = generator.encoder, main.encoder
    embeddings = [name for name in own if name.startswith("embeddings/")]
    tied = all(np.array_equal(own[name], shared[name]) for name in embeddings)
    arrays = _scoped("electra", shared) | main.heads
    kept = {n: a for n, a in own.items() if not (tied and n in embeddings)}
    arrays |= _scoped("generator", kept) | generator.heads
    return HuggingFaceModel(
        f"{main.path},{generator.path}",
        main.folder,
        arrays,
        main.network,
        generator.network,
        main.casing or generator.casing,
        main.left_over + generator.left_over,
    )


def _check_pair(main: _Part, generator: _Part) -> None:
    """Refuses a generator whose ids mean something else, or of another family."""
    paths = [path for part in (main, generator) if (path := vocabulary_file(part.folder))]
    casings = {part.casing for part in (main, generator)} - {None}
    reasons = {
        "vocab_size": main.network.vocab_size != generator.network.vocab_size,
        "the vocabularies": len(paths) == 2
        and vocabulary_difference(*map(load_vocabulary, paths)) is not None,
        "casing or accents": len(casings) > 1,
        "model_type": main.model_type != generator.model_type,
    }
    different = [name for name, differs in reasons.items() if differs]
    if different:
        raise UserError(
            "The discriminator and the generator don't belong together.",
            where=f"{main.folder},{generator.folder}",
            received="they differ in " + ", ".join(different),
            remedy="Give two networks that were trained together.",
        )


def _scoped(scope: str, arrays: Arrays) -> Arrays:
    return {f"{scope}/{name}": array for name, array in arrays.items()}
