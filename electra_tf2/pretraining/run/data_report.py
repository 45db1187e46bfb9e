"""What pre-training says of its data before it begins: epochs, padding, and what is lost.

The builder's counts in metadata.json tell most of it. Where they are missing (records of the
official program, or of an older version), the first records are looked into; and what becomes of
documents, which are cut at the run's own length, is counted from the lengths of their sentences.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import tensorflow as tf

from electra_tf2.data.document_input import DocumentFiles
from electra_tf2.data.documents import example_lengths, find_cuts
from electra_tf2.data.input import Mixture, TrainingFiles
from electra_tf2.data.open_records import explain_data_loss, is_data_loss
from electra_tf2.data.position import sentence_lengths
from electra_tf2.data.quality import (
    DROPPED_WARNING,
    FILL_WARNING,
    NEARLY_ALL,
    check_known,
    epochs_warning,
    figures,
    fill_warning,
    repeated_warning,
    unknown_warnings,
    warnings,
)
from electra_tf2.data.tfrecords import FEATURES, TOKEN_IDS, token_dtype
from electra_tf2.errors import UserError
from electra_tf2.pretraining.phases import Phase
from electra_tf2.text.unknown import UNKNOWN_WARNING
from electra_tf2.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from configure_pretraining import PretrainingConfig

_FIRST_RECORDS = 1000
# About two seconds; what is measured then hardly changes.
_MOST_SENTENCES = 1_000_000
_ALLOW = "Or train on it anyway: set the hparam allow_unknown to true."
# Share of the tokens from which on words that can't be hidden as a whole are a warning.
_LONG_WARNING = 0.05


class EpochCuts(NamedTuple):
    """What the documents are cut into in an epoch.

    Attributes:
        examples: how many.
        fill: share of their places that hold tokens, in 0..1.
        dropped: share of the tokens that are in no example, in 0..1.
        all_counted: whether all documents were looked at, not only the first.
    """

    examples: int
    fill: float
    dropped: float
    all_counted: bool


def check_text(files: TrainingFiles, vocabulary: Vocabulary, config: PretrainingConfig) -> None:
    """Refuses records that say next to nothing of their text, or whose words can't be hidden.

    Raises:
        UserError: nearly all of the text is [UNK], and `allow_unknown` is false; or nearly all is
            in words of more tokens than may be hidden in an example, and whole words are to be.
    """
    where = files.paths[0]
    if (long := long_words(files, vocabulary, config)) >= NEARLY_ALL:
        raise UserError(
            "Nearly all of the text is in words that are too long to be hidden as a whole.",
            where=where,
            received=f"{_long_words_said(long, config)}; masking {config.masking}",
            remedy="Set masking to token. Or put spaces between the words of the text and build "
            "the records again (docs/languages.md).",
        )
    if config.allow_unknown:
        return
    if files.metadata is not None and "unknown_characters" in files.metadata.counts:
        check_known(files.metadata, where, _ALLOW)
        return
    unknown = first_records(files, vocabulary).unknown
    if unknown >= NEARLY_ALL:
        raise UserError(
            "Nearly all tokens of the records are [UNK]: nothing could be learned from them.",
            where=where,
            received=f"{unknown:.1%} of the tokens in the first records",
            remedy=f"Build them again with a vocabulary of this language. {_ALLOW}",
        )


class CorpusEpochs(NamedTuple):
    """How often a run passes over each corpus of a phase's mixture.

    Attributes:
        mixture: what the phase is trained on.
        phase: gives the steps.
        sizes: examples of an epoch of each corpus; of documents, of the first one.
    """

    mixture: Mixture
    phase: Phase
    sizes: list[int]

    def passes(self, step: int) -> dict[str, float]:
        """Returns the epochs of each corpus by its name, those of earlier phases included.

        Args:
            step: steps done, counted in the whole run.
        """
        positions = self.mixture.positions(self.phase.config.seed, self.phase.examples(step))
        corpora = zip(self.mixture.corpora, positions, self.sizes, strict=True)
        return {own.name: count / size for own, count, size in corpora}

    def figures(self, step: int) -> dict[str, float]:
        """Returns the same for reports, by names such as `epochs_wiki`."""
        return {f"epochs_{name}": epochs for name, epochs in self.passes(step).items()}

    def describe(self, step: int) -> str:
        """Returns the same in words, such as "wiki 0.41, code 3.20"."""
        return ", ".join(f"{name} {epochs:.2f}" for name, epochs in self.passes(step).items())


class DataReport(NamedTuple):
    """What to print before a phase is trained.

    Attributes:
        trained_on: such as "1,200 examples (10.7 epochs)".
        lines: figures, and warnings.
        epochs: of the corpora of a mixture; None of a single data set.
    """

    trained_on: str
    lines: list[str]
    epochs: CorpusEpochs | None = None


def report_data(files: TrainingFiles | Mixture, vocabulary: Vocabulary, phase: Phase) -> DataReport:
    """Looks at the data of a phase."""
    if isinstance(files, Mixture):
        return _report_mixture(files, vocabulary, phase)
    found = _look_at(files, vocabulary, phase.config)
    epochs, alarms = phase.examples() / found.examples, found.alarms
    if warning := epochs_warning(epochs, found.examples):
        alarms.append(warning)
    return DataReport(
        f"{found.described} ({_passes_said(epochs)} epochs)",
        [f"Data: {'; '.join(found.figures)}", *(f"Warning: {alarm}" for alarm in alarms)],
    )


def _report_mixture(files: Mixture, vocabulary: Vocabulary, phase: Phase) -> DataReport:
    found = [_look_at(own.files, vocabulary, phase.config) for own in files.corpora]
    epochs = CorpusEpochs(files, phase, [own.examples for own in found])
    lines, warnings = [], []
    for corpus, share, own in zip(files.corpora, files.shares, found, strict=True):
        # As expected: to count all draws of a long phase takes a while.
        count = (corpus.passed + share * phase.examples()) / own.examples
        told = "; ".join([f"{share:.1%} of what is drawn", *own.figures])
        lines.append(
            f"Corpus {corpus.name}: {own.described} ({_passes_said(count)} epochs); {told}"
        )
        alarms = [*own.alarms, *filter(None, [repeated_warning(count)])]
        warnings += [f"Warning: corpus {corpus.name}: {alarm}" for alarm in alarms]
    return DataReport(files.described, [*lines, *warnings], epochs)


def _passes_said(epochs: float) -> str:
    return f"{epochs:.2g}" if epochs < 10 else f"{epochs:,.0f}"


class _Look(NamedTuple):
    """What a look at a data set finds: examples of an epoch, in words, figures and warnings."""

    examples: int
    described: str
    figures: list[str]
    alarms: list[str]


def _look_at(files: TrainingFiles, vocabulary: Vocabulary, config: PretrainingConfig) -> _Look:
    found, alarms = _text(files, vocabulary, config)
    if (long := long_words(files, vocabulary, config)) > _LONG_WARNING:
        alarms.append(
            f"{_long_words_said(long, config)}, and never are: masking {config.masking} hides "
            "whole words. Is it text without spaces (docs/languages.md)?"
        )
    examples, trained_on = files.num_records, files.described
    if isinstance(files, DocumentFiles):
        cuts = epoch_cuts(files, config)
        found += [f"{cuts.fill:.1%} of the examples' places are filled"]
        found += [f"{cuts.dropped:.2%} of the tokens are in no example"]
        alarms += _cut_alarms(files, cuts)
        examples, about = cuts.examples, "" if cuts.all_counted else "about "
        trained_on += f", {about}{examples:,} examples in the first epoch"
    return _Look(examples, trained_on, found, alarms)


def _text(
    files: TrainingFiles, vocabulary: Vocabulary, config: PretrainingConfig
) -> tuple[list[str], list[str]]:
    """Figures and warnings of the text, from the metadata or from the first records."""
    metadata = files.metadata
    if metadata is not None and "unknown_tokens" in metadata.counts:
        found = [f"{name} {count:,} ({said})" for name, count, said in figures(metadata) if count]
        is_dynamic = isinstance(files, DocumentFiles)  # what they lose is counted at this length
        return found, unknown_warnings(metadata) if is_dynamic else warnings(metadata)
    first = first_records(files, vocabulary)
    found = [f"{first.unknown:.1%} of the tokens in the first {first.count:,} records are [UNK]"]
    alarms = []
    if first.unknown > UNKNOWN_WARNING:
        alarms.append(f"{found[0]}. Is it the vocabulary of this language?")
    if not isinstance(files, DocumentFiles):
        fill = first.tokens / (first.count * config.max_seq_length)
        found.append(f"{fill:.1%} of their places are filled")
        if fill < FILL_WARNING:
            alarms.append(fill_warning(metadata, fill))
    return found, alarms


def _cut_alarms(files: DocumentFiles, cuts: EpochCuts) -> list[str]:
    alarms = []
    if cuts.dropped > DROPPED_WARNING:
        alarms.append(
            f"{cuts.dropped:.1%} of the tokens are in no example, because a line that overruns its "
            "example loses the rest (as in the official program). Build the documents with "
            "--split-long-lines to keep it, or raise max_seq_length."
        )
    if cuts.fill < FILL_WARNING:
        alarms.append(fill_warning(files.metadata, cuts.fill))
    return alarms


def epoch_cuts(files: DocumentFiles, config: PretrainingConfig) -> EpochCuts:
    """Counts what the first epoch makes of documents; of the first ones, if there are many."""
    rule = files.rule(config.seed, config.max_seq_length)
    read = examples = tokens = places = filled = sentences = 0
    for documents in sentence_lengths(files, range(len(files.paths))):
        cuts = find_cuts(documents, 0, rule)
        lengths = example_lengths(documents, cuts, 0, rule)
        read += len(documents.files)
        examples += len(cuts.ends)
        tokens += int(documents.sentence_lengths.sum())
        filled += int(lengths.whole.sum())
        places += int(lengths.tokens.sum())
        sentences += len(documents.sentence_lengths)
        if sentences >= _MOST_SENTENCES:
            break
    return EpochCuts(
        examples=round(examples * files.num_records / read),
        fill=filled / (examples * config.max_seq_length),
        dropped=1 - places / tokens,
        all_counted=read == files.num_records,
    )


def long_words(files: TrainingFiles, vocabulary: Vocabulary, config: PretrainingConfig) -> float:
    """Returns the share of the tokens that can't be hidden, as their words have too many.

    Args:
        files: the records, of which the first are looked into.
        vocabulary: of their ids.
        config: says what is hidden at a time, and how many tokens of an example at most.

    Returns:
        The share, in 0..1; 0 where single tokens are hidden.

    Raises:
        UserError: a record is damaged.
    """
    if config.masking == "token":
        return 0.0
    ids, _ = _first_ids(files)
    starts = np.flatnonzero(~np.isin(ids, vocabulary.continuation_ids))
    sizes = np.diff(starts, append=len(ids))
    return float(sizes[sizes > config.max_predictions_per_seq].sum() / max(1, len(ids)))


def _long_words_said(share: float, config: PretrainingConfig) -> str:
    return (
        f"{share:.1%} of the tokens in the first records are in words of more than "
        f"{config.max_predictions_per_seq} pieces, the most that are hidden in an example"
    )


class _FirstRecords(NamedTuple):
    """The first records of a data set, and the share of [UNK] (0..1) but for special tokens."""

    count: int
    tokens: int
    unknown: float


def first_records(files: TrainingFiles, vocabulary: Vocabulary) -> _FirstRecords:
    """Looks into the first records.

    Raises:
        UserError: a record is damaged.
    """
    ids, count = _first_ids(files)
    words = ids[(ids != vocabulary.cls_id) & (ids != vocabulary.sep_id)]
    unknown = float(np.mean(words == vocabulary.unk_id)) if len(words) else 0.0
    return _FirstRecords(count, len(ids), unknown)


def _first_ids(files: TrainingFiles) -> tuple[np.ndarray, int]:
    """The ids of the first records, without padding, and the number of these."""
    try:
        return _read_first_ids(files)
    except tf.errors.OpError as error:
        if is_data_loss(files, error):
            raise explain_data_loss(files, error) from error
        raise UserError(
            "A record can't be parsed.",
            where=files.paths[0],
            received=str(error).partition("\n")[0],
            remedy="Give TFRecords that build_pretraining_dataset.py wrote.",
        ) from error


def _read_first_ids(files: TrainingFiles) -> tuple[np.ndarray, int]:
    there = [path for path, count in zip(files.paths, files.counts, strict=True) if count]
    records = list(tf.data.TFRecordDataset(there).take(_FIRST_RECORDS).as_numpy_iterator())
    if isinstance(files, DocumentFiles):
        spec = {TOKEN_IDS: tf.io.FixedLenFeature([], tf.string)}
        strings = tf.io.parse_example(records, spec)[TOKEN_IDS].numpy()
        dtype = token_dtype(files.metadata.vocab_size)
        return np.frombuffer(b"".join(strings), dtype), len(records)
    spec = {name: tf.io.RaggedFeature(tf.int64) for name in FEATURES[:2]}
    features = tf.io.parse_example(records, spec)
    ids, mask = (features[name].values.numpy() for name in FEATURES[:2])
    return ids[mask > 0], len(records)
