"""The page's sections about pre-training: what was trained on what, figures and curves."""

from __future__ import annotations

import itertools
import posixpath
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from electra_tf2 import patterns
from electra_tf2.compute import PFS_DAY
from electra_tf2.console import duration
from electra_tf2.data.shards import combine_metadata, read_metadata
from electra_tf2.errors import UserError
from electra_tf2.hparams.ramps import shown
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.plots import Curve
from electra_tf2.pretraining.phases import PFS_DAYS, describe_batches, phases_of
from electra_tf2.report.curves import Plot, draw
from electra_tf2.report.folder import (
    PretrainedFolder,
    casing_of,
    places_of,
    seconds_of,
    tokens_by_phase,
)
from electra_tf2.report.judged import Judged
from electra_tf2.report.page import Figure, Section, facts, joined, note, table
from electra_tf2.text.normalization import Casing

if TYPE_CHECKING:
    from configure_pretraining import PretrainingConfig

# Name in metrics.jsonl, title, whose figure it is; the first four are drawn.
_METRICS = (
    ("generator_loss", "Generator: loss", "generator"),
    ("masked_lm_accuracy", "Generator: accuracy at masked tokens", "generator"),
    ("discriminator_loss", "Discriminator: loss", "discriminator"),
    ("disc_auc", "Discriminator: AUC", "discriminator"),
    ("disc_accuracy", "Discriminator: accuracy", "discriminator"),
    ("disc_precision", "Discriminator: precision", "discriminator"),
    ("disc_recall", "Discriminator: recall", "discriminator"),
    ("loss", "Weighted loss", "ink"),
)
_DRAWN = 4
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def key_figures(folder: PretrainedFolder) -> list[Figure]:
    """Returns the figures at the top, those that are known."""
    figures = []
    for name, label, form in (
        ("disc_auc", "Discriminator AUC", "{:.3f}"),
        ("masked_lm_accuracy", "Generator accuracy", "{:.1%}"),
    ):
        value, remark = folder.last_evaluated(name) or (folder.last(name), "in training")
        if value is not None:
            figures.append(Figure(label, form.format(value), remark))
    config, step = folder.config, folder.step
    if step and folder.reports:
        planned = config.num_train_steps if config else step
        done = "" if step >= planned else f"of {planned:,} that were planned"
        figures.append(Figure("Steps", f"{step:,}", done))
    if config and folder.reports:
        tokens = sum(count for _, _, count in tokens_by_phase(config, step))
        figures.append(Figure("Tokens seen", short(tokens), "padding included"))
    days = folder.last(PFS_DAYS) or folder.state.get(PFS_DAYS)
    if isinstance(days, int | float):
        figures.append(Figure("Compute", scientific(days * PFS_DAY), f"FLOPs; {days:.3g} pfs-days"))
    if seconds := seconds_of(folder):
        figures.append(Figure("Time", duration(seconds), "in training steps"))
    return figures


def short(number: float) -> str:
    """Returns a large number in a few characters, such as "9.22 M"."""
    for size, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:,.0f}"


def scientific(number: float) -> str:
    """Returns a number such as "3.87 · 10¹³"."""
    digits, exponent = f"{number:.2e}".split("e")
    return f"{digits} · 10{str(int(exponent)).translate(_RAISED)}"


def training_section(folder: PretrainedFolder, judged: Judged | None) -> Section | None:
    """Returns what was trained on what; None where that is not stored."""
    if folder.stored is None or folder.config is None:
        return None
    config, network = folder.config, folder.stored.network
    environment = folder.state.get("environment")
    environment = environment if isinstance(environment, dict) else {}
    device = f", on {environment['device']}" if "device" in environment else ""
    rate = _in_phases(
        config,
        lambda own: f"{own.learning_rate:g}, after {own.num_warmup_steps:,} steps of warm-up",
    )
    trained = (report for report in folder.reports if report["split"] == "train")
    times = [r["wall_time"] for r in trained if isinstance(r.get("wall_time"), int | float)]
    ended = time.strftime("%Y-%m-%d %H:%M", time.localtime(max(times))) if times else ""
    units = {"token": "", "whole_word": ", in whole words", "span": ", in spans of whole words"}
    pairs = [
        *_data_of(folder, config),
        (
            "Held-out records of the training",
            _in_phases(config, lambda own: own.eval_tfrecords or "none"),
        ),
        ("Vocabulary", f"{network.vocab_size:,} tokens, {_in_words(casing_of(folder))}"),
        ("Objective", _objective(config)),
        *_networks(config, network),
        ("Parameters", judged.parameters if judged else ""),
        (
            "Training",
            "none since it was grown; before, " * folder.is_grown + describe_batches(config),
        ),
        ("Learning rate", f"{rate} ({config.optimizer})"),
        (
            "Masked",
            _in_phases(config, lambda own: shown(own.mask_prob, ".0%"))
            + f" of the tokens{units[config.masking]}",
        ),
        ("Started from", _start(config)),
        ("Seed", str(config.seed)),
        ("Computed in", f"{config.precision}{device}"),
        ("Libraries", ", ".join(f"{n} {version}" for n, version in folder.libraries.items())),
        ("Last step made", ended),
    ]
    return Section("training", "What was trained on what", facts(pairs))


def _in_words(casing: Casing) -> str:
    if not casing.lower_case:
        return "cased"
    return "lower-cased, " + ("without accents" if casing.strip_accents else "with accents")


def _in_phases(config: PretrainingConfig, describe: Callable[[PretrainingConfig], str]) -> str:
    """Returns what describes a run's phases, one after the other, or once where it is the same."""
    return _one_after_the_other(describe(phase.config) for phase in phases_of(config))


def _one_after_the_other(texts: Iterable[str]) -> str:
    return "; then ".join(text for text, _ in itertools.groupby(texts))


def _data_of(folder: PretrainedFolder, config: PretrainingConfig) -> list[tuple[str, str]]:
    """The text and the records of a run; of each corpus, where it is a mixture in some phase."""
    given = [phase.config.pretrain_tfrecords for phase in phases_of(config)]
    if all(isinstance(records, str) for records in given):
        texts = _one_after_the_other(filter(None, (_data(folder, str(own)) for own in given)))
        return [("Text", texts), ("Records", _one_after_the_other(map(str, given)))]
    corpora = list(dict.fromkeys(own for records in given for own in patterns.weighted(records)))
    weights = [patterns.weighted(records) for records in given]
    found = []
    for name, own in zip(patterns.short_names(corpora), corpora, strict=True):
        shares = (f"{one.get(own, 0) / sum(one.values()):.1%}" for one in weights)
        found += [(f"Text of {name} ({_one_after_the_other(shares)})", _data(folder, own))]
        found += [(f"Records of {name}", own)]
    return found


def _data(folder: PretrainedFolder, pattern: str) -> str:
    """What the records' metadata says of the text; "" where the records are gone."""
    for own in places_of(folder, pattern):
        try:
            paths = [path for part in patterns.split(own) for path in patterns.matches(part)]
            found = [read_metadata(place) for place in sorted({*map(posixpath.dirname, paths)})]
        except (UserError, OSError):
            continue
        if None not in found and (metadata := combine_metadata(found)):
            counts = metadata.counts
            named = [f"{counts[n]:,} {n}" for n in ("documents", "lines", "tokens") if n in counts]
            return ", ".join([*named, f"{metadata.num_examples:,} {metadata.kind.noun}"])
    return ""


def _objective(config: PretrainingConfig) -> str:
    if config.electric_objective:
        return "Electric: noise-contrastive estimation"
    if not config.electra_objective:
        return "Masked language model"
    generator = f"{shown(config.gen_weight)} generator, " * config.train_generator
    weights = f"{generator}{shown(config.disc_weight)} discriminator"
    return f"ELECTRA: replaced-token detection (weights: {weights})"


def _start(config: PretrainingConfig) -> str:
    start = config.branch_from or config.init_checkpoint or "random weights"
    return start + (f"; generator: {config.init_generator}" if config.init_generator else "")


def _networks(config: PretrainingConfig, network: TransformerConfig) -> list[tuple[str, str]]:
    detection = config.electra_objective or config.electric_objective
    if not detection:
        return [("Network", _shape(network))]
    if config.uniform_generator:
        generator = "none: replacements are drawn uniformly"
    elif not config.untied_generator:
        generator = "the discriminator with another head"
    else:
        shape = config.generator_network()
        generator = _shape(shape) + (", two towers" if config.two_tower_generator else "")
        generator += ", which the discriminator adds to" * (config.embedding_sharing == "gdes")
        generator += "; not trained" * (not config.train_generator)
    return [("Discriminator", _shape(network)), ("Generator", generator)]


def _shape(network: TransformerConfig) -> str:
    layers, heads = network.num_hidden_layers, network.num_attention_heads
    kind = "modern " * network.is_modern
    return (
        f"{layers} {kind}layer{'s' * (layers != 1)} of {network.hidden_size}, {heads} "
        f"head{'s' * (heads != 1)}, embeddings of {network.embedding_size}"
    )


def curves_section(folder: PretrainedFolder) -> Section | None:
    """Returns the learning curves and a table of the last figures; None without a log."""
    plots, rows = [], []
    kinds = list(dict.fromkeys(own["evaluated_on"] for own in folder.evaluations))
    for number, (name, title, color) in enumerate(_METRICS):
        train, evaluated = folder.training_curve(name), folder.evaluated_curves(name)
        if train is None and not evaluated:
            continue
        rows.append([title, _shown(train), *(_shown(evaluated.get(kind)) for kind in kinds)])
        if number < _DRAWN:
            curves = [train] if train else [], list(evaluated.values())
            plots.append(Plot(f"plot-{name}".replace("_", "-"), title, color, *curves))
    if not rows:
        return None
    header = ["last figure", "in training", *kinds]
    missing = "" if kinds else note("Not evaluated: do_eval and eval_every_steps ask for that.")
    return Section("curves", "Learning curves", joined([draw(plots), table(header, rows), missing]))


def _shown(curve: Curve | None) -> str:
    return "" if curve is None else f"{curve.values[-1]:.4g}"
