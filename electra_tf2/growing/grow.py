"""A model's folder from another model, with more word pieces or more positions."""

from __future__ import annotations

import dataclasses
import json
import posixpath
from collections.abc import Mapping
from typing import Any

import numpy as np

from electra_tf2.console import say
from electra_tf2.errors import UserError, first_of
from electra_tf2.files import replace_file
from electra_tf2.formats.official import MASKED_LM_SCOPES, TRANSFORMER_SCOPES
from electra_tf2.growing.pieces import NewPieces, count_unused, grown_rows, read_new_pieces
from electra_tf2.loading.folder import VOCABULARY, WEIGHTS_ONLY, stored_config, write_model_folder
from electra_tf2.loading.positions import (
    TRAINED_POSITIONS,
    Filling,
    MorePositions,
    check_positions,
    grown_positions,
    trained_positions,
)
from electra_tf2.loading.pretrained import (
    STRUCTURE,
    Pretrained,
    check_finite,
    generator_network,
    generator_scope,
    open_pretrained,
)
from electra_tf2.loading.source import Source, TextOptions, open_by_flags
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.outputs import check_free, new_folder
from electra_tf2.training.checkpoints import CheckpointStore

_SCOPES = (*TRANSFORMER_SCOPES, *MASKED_LM_SCOPES, "discriminator_predictions")
_WORDS = {f"{scope}/embeddings/word_embeddings" for scope in TRANSFORMER_SCOPES}
_POSITIONS = {f"{scope}/embeddings/position_embeddings" for scope in TRANSFORMER_SCOPES}
_BIASES = {f"{scope}/output_bias" for scope in MASKED_LM_SCOPES}
_TASKS = "task_specific"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Growth(TextOptions):
    """What a model gets, and what nothing beside it says.

    Attributes:
        new_pieces: path of the pieces to add, see `read_new_pieces`; None: no new ones.
        reuse_unused: whether they take the places of the pieces [unused…] first.
        max_positions: number of positions; None: as many as the model has.
        positions: how the position table is filled, see `MorePositions`; None: "copy".
        trained_positions: number of positions that were trained; None: see `trained_positions` in
            electra_tf2/loading/positions.py.
    """

    new_pieces: str | None = None
    reuse_unused: bool = False
    max_positions: int | None = None
    positions: Filling | None = None
    trained_positions: int | None = None


def grow_model(path: str, output: str, growth: Growth) -> None:
    """Writes a model's folder with all networks of a model, grown.

    Text without new pieces has the same ids as before, and the networks compute the same states and
    logits for it (the generator over the old pieces), as long as it is not longer than the trained
    positions and these are copied. The folder holds weights alone: an optimizer starts afresh.

    Args:
        path: anything that `open_pretrained` reads.
        output: the folder to make.
        growth: what the model gets.

    Raises:
        UserError: there is no model, it was fine-tuned, it can't grow so, or the output is not
            free. Nothing is written then.
    """
    check_free(output)
    _check_asked(growth)
    source = _open(path, growth)
    old, network = source.vocabulary, source.network
    arrays = _networks_arrays(source.pretrained)
    pieces = positions = None
    if growth.new_pieces is not None:
        pieces = read_new_pieces(
            growth.new_pieces, old, source.casing, reuse_unused=growth.reuse_unused
        )
        arrays = _with_pieces(arrays, pieces, len(old), network.vocab_size, path)
        rows = max(network.vocab_size, len(pieces.vocabulary))
        network = dataclasses.replace(network, vocab_size=rows)
    if growth.max_positions is not None:
        _check_table(source)
        positions = _more_positions(source, growth.max_positions, growth)
        for name in _POSITIONS & arrays.keys():
            arrays[name] = grown_positions(arrays[name], positions)
        network = dataclasses.replace(network, max_position_embeddings=positions.rows)
    with new_folder(output) as folder:
        _write(folder, source, arrays, network, pieces, positions)
        _check_generator(source.pretrained, open_pretrained(folder), network)
    _report(source, output, network, pieces, positions)


def _check_asked(growth: Growth) -> None:
    if growth.new_pieces is None and growth.max_positions is None:
        raise UserError(
            "There is nothing that the model should get.",
            where="--new-pieces, --max-positions",
            received="neither of them",
            remedy="Give --new-pieces for word pieces, --max-positions for longer texts, or both.",
        )
    is_as_long = growth.max_positions is None
    alone = {
        "--reuse-unused": growth.reuse_unused and growth.new_pieces is None,
        "--trained-positions": growth.trained_positions is not None and is_as_long,
        "--positions": growth.positions is not None and is_as_long,
    }
    for flag, is_alone in alone.items():
        if is_alone:
            needed = "--new-pieces" if flag == "--reuse-unused" else "--max-positions"
            raise UserError(
                f"{flag} needs {needed} beside it.",
                where=flag,
                received=f"no {needed}",
                remedy=f"Give {needed} as well, or leave {flag} out.",
            )


def _open(path: str, growth: Growth) -> Source:
    source = open_by_flags(path, growth)
    pretrained = source.pretrained
    if any(name.startswith(f"{_TASKS}/") for name in pretrained.arrays):
        raise UserError(
            "The model was fine-tuned: the heads of its tasks can't be taken along.",
            where=pretrained.path,
            received=f"weights below {_TASKS}/",
            remedy="Give the pre-trained model, and fine-tune the grown one.",
        )
    return source


def _networks_arrays(pretrained: Pretrained) -> dict[str, np.ndarray]:
    """Returns the networks' finite weights; what else the file holds is left behind, and named."""
    arrays = {n: a for n, a in pretrained.arrays.items() if n.partition("/")[0] in _SCOPES}
    others = [*sorted(pretrained.arrays.keys() - arrays.keys()), *pretrained.left_over]
    if others:
        say(f"Not taken over from {pretrained.path}: {first_of(others, separator=', ')}.")
    check_finite(pretrained, arrays)
    return arrays


def _with_pieces(
    arrays: Mapping[str, np.ndarray], pieces: NewPieces, old_size: int, rows: int, path: str
) -> dict[str, np.ndarray]:
    """Gives all tables of embeddings, and the biases of masked LMs, rows for the new pieces."""
    names = (_WORDS | _BIASES) & arrays.keys()
    wrong = [f"{name} has {len(arrays[name])}" for name in names if len(arrays[name]) != rows]
    if wrong:
        raise UserError(
            "The model's tables don't have a row for each of its embeddings.",
            where=path,
            received=f"{first_of(sorted(wrong))}, not {rows}",
            remedy="Check that all of the model's files are its own.",
        )
    return {
        name: grown_rows(array, pieces, old_size) if name in names else array
        for name, array in arrays.items()
    }


def _check_table(source: Source) -> None:
    if source.network.is_modern:
        raise UserError(
            "The model has no table of positions that could grow: its positions are rotary.",
            where="--max-positions",
            received=f'a model with the encoder "modern", {source.pretrained.path}',
            remedy="Leave --max-positions out, and give the model longer texts as it is "
            "(max_seq_length, and max_position_embeddings in model_hparam_overrides for more than "
            f"{source.network.max_position_embeddings} tokens).",
        )


def _more_positions(source: Source, rows: int, growth: Growth) -> MorePositions:
    trained = growth.trained_positions
    if trained is None:
        trained, reason, _ = trained_positions(source)
        say(
            f"The model's first {trained} positions count as trained: {reason} "
            "(--trained-positions states their number)."
        )
    wanted = MorePositions(rows, trained, growth.positions or "copy")
    check_positions(wanted, source.network.max_position_embeddings)
    return wanted


def _write(
    folder: str,
    source: Source,
    arrays: Mapping[str, np.ndarray],
    network: TransformerConfig,
    pieces: NewPieces | None,
    positions: MorePositions | None,
) -> None:
    vocabulary = pieces.vocabulary if pieces else source.vocabulary
    path = posixpath.join(folder, VOCABULARY)
    replace_file(path, vocabulary.text.encode())
    hparams = _hparams(source, network)
    write_model_folder(
        folder, hparams=hparams, network=network, vocab_file=path, casing=source.casing
    )
    state = {
        WEIGHTS_ONLY: True,
        "examples_seen": 0,
        "config": stored_config(hparams, network),
        "vocab_sha256": vocabulary.sha256,
        "casing": source.casing.to_dict(),
        **_trained_now(source, positions),
    }
    CheckpointStore(folder).save(0, arrays, {}, state)


def _trained_now(source: Source, positions: MorePositions | None) -> dict[str, int]:
    """Returns what the state says of the positions: hparams of training don't know of growth."""
    if source.network.is_modern:
        return {}
    if positions is None:
        trained = trained_positions(source)
        return {TRAINED_POSITIONS: trained.positions} if trained.is_known else {}
    is_copy = positions.filling == "copy"
    return {TRAINED_POSITIONS: positions.trained if is_copy else positions.rows}


def _hparams(source: Source, network: TransformerConfig) -> dict[str, Any]:
    """Returns the hparams that the weights were trained with, with the sizes that they have now."""
    pretrained, hparams = source.pretrained, source.hparams()
    if not hparams:
        generator = pretrained.generator
        if generator is None or generator_scope(pretrained) != "generator":
            return {}
        return {"generator_layers": generator.num_hidden_layers / network.num_hidden_layers}
    sizes = {"max_position_embeddings": network.max_position_embeddings}
    overrides = hparams.get("model_hparam_overrides")
    if isinstance(overrides, dict):
        if network.max_position_embeddings != source.network.max_position_embeddings:
            overrides = overrides | sizes
        if "vocab_size" in overrides:
            overrides = overrides | {"vocab_size": network.vocab_size}
        hparams["model_hparam_overrides"] = overrides
    hparams.pop("vocab_file", None)
    ended = ("branch_from", "init_generator", "copy_positions")
    hparams |= {name: None for name in ended if name in hparams}
    return {**hparams, "vocab_size": network.vocab_size, "init_checkpoint": pretrained.path}


def _check_generator(before: Pretrained, after: Pretrained, network: TransformerConfig) -> None:
    """Refuses a Hugging Face generator of a shape that a model's folder doesn't state."""
    stated = before.generator
    if stated is None or generator_scope(before) != "generator":
        return
    ours = generator_network(after, network)
    grown = {"vocab_size", "max_position_embeddings"}
    names = [name for name in (*STRUCTURE, "hidden_act") if name not in grown]
    different = [
        f"{name} {getattr(stated, name)}, not {getattr(ours, name)}"
        for name in names
        if getattr(stated, name) != getattr(ours, name)
    ]
    if different:
        raise UserError(
            "The generator has a shape that generators don't have here.",
            where=before.path,
            received=first_of(different),
            remedy="Give the discriminator's folder alone.",
        )


def _report(
    source: Source,
    output: str,
    network: TransformerConfig,
    pieces: NewPieces | None,
    positions: MorePositions | None,
) -> None:
    """Says what came out, and how to go on from it."""
    say(f"Wrote {output}, from {source.pretrained.path}")
    if pieces:
        _report_pieces(source, network, pieces)
    if positions:
        effect = {
            "copy": f"outputs for texts of up to {positions.trained} tokens are as before",
            "interpolate": "all outputs change, and training has to adapt to it",
        }
        say(
            f"  {positions.rows} positions, of the {positions.trained} trained ones "
            f"({positions.filling}): {effect[positions.filling]}"
        )
    vocab_file = posixpath.join(output, VOCABULARY)
    hparams = {
        "init_checkpoint": output,
        "vocab_file": vocab_file,
        "vocab_size": network.vocab_size,
    }
    if positions:
        rows = {"max_position_embeddings": positions.rows}
        overrides = _hparams(source, network).get("model_hparam_overrides")
        own = overrides if isinstance(overrides, dict) else {}
        hparams["model_hparam_overrides"] = own | rows
    say(
        "It holds weights alone: training starts with a fresh optimizer. To pre-train further, "
        f"build the data with --vocab-file {vocab_file}, and give run_pretraining.py a new "
        "--model-name and, beside the model's other hparams, "
        f"{json.dumps(hparams, ensure_ascii=False)}."
    )


def _report_pieces(source: Source, network: TransformerConfig, pieces: NewPieces) -> None:
    new, old = pieces.spelled, source.vocabulary
    alone = sum(not spelled for spelled in new.values())
    say(
        f"  {len(pieces.vocabulary):,} pieces, {len(new):,} of them new: {len(new) - alone:,} "
        "start as the mean of the pieces that spelled them"
        + (f", {alone:,}, which were [UNK], as the mean of all" if alone else "")
    )
    if pieces.known:
        say(f"  {pieces.known:,} lines are left out: the model has the piece, or it stands twice")
    reused = sum(place < len(old) for place in new)
    unused = count_unused(pieces.vocabulary)
    if reused or unused:
        say(f"  {reused:,} took the place of a piece [unused…]; {unused:,} such pieces stay")
    spare = min(source.network.vocab_size, len(pieces.vocabulary)) - len(old)
    if spare > 0:
        say(f"  {spare:,} took embeddings that no text had so far")
    if network.vocab_size == source.network.vocab_size:
        say(f"  the table keeps its {network.vocab_size:,} rows")
