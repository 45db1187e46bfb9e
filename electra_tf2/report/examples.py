"""The page's sections of examples: held-out text as both networks see it."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from electra_tf2.errors import UserError
from electra_tf2.loading.folder import VOCABULARY
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.patterns import weighted
from electra_tf2.pretraining.phases import phase_trained, phases_of
from electra_tf2.report.folder import PretrainedFolder, casing_of, places_of
from electra_tf2.report.judged import Judged, judge
from electra_tf2.report.markup import Markup, element, joined, note, paragraph
from electra_tf2.report.page import Section
from electra_tf2.report.sentences import examples_of, render_opinions, render_samples
from electra_tf2.text.vocabulary import load_vocabulary

_OPINIONS, _SAMPLES = 4, 2


def examples_sections(folder: PretrainedFolder) -> tuple[list[Section], Judged | None]:
    """Returns the sections of the networks' opinions and samples, and what they show.

    Where the model or its records can't be opened, a section says why.
    """
    if folder.config is None or folder.stored is None or not folder.state:
        return [], None
    try:
        judged, where = _judge(folder, folder.stored.network)
    except UserError as error:
        why = paragraph("There are no examples: ", *_error(error))
        return [Section("examples", "Examples", why)], None
    tokens = examples_of(judged)
    sections = []
    if judged.p_replaced is not None:
        content = joined([where, render_opinions(tokens)])
        sections.append(Section("discriminator", "What the discriminator says", content))
    if not folder.config.uniform_generator:
        judges = judged.p_replaced is not None
        content = joined([where, render_samples(tokens[:_SAMPLES], judges=judges)])
        sections.append(Section("generator", "What the generator makes of masks", content))
    return sections, judged


def _error(error: UserError) -> Sequence[str]:
    place = [" ", element("code", error.where)] if error.where else []
    received = [" ", str(error.received)] if error.received else []
    return [error.what, *place, *received]


def _judge(folder: PretrainedFolder, network: TransformerConfig) -> tuple[Judged, Markup]:
    """What the networks make of held-out text, or else of the text they were trained on."""
    assert folder.config is not None
    config = phase_trained(phases_of(folder.config), folder.step).config
    vocabulary = load_vocabulary(posixpath.join(folder.model_dir, VOCABULARY))
    tries = [(own, True) for own in places_of(folder, config.eval_tfrecords or "") if own]
    for patterns in weighted(config.pretrain_tfrecords):
        tries += [(own, False) for own in places_of(folder, patterns)]
    failure: UserError | None = None
    for pattern, is_held_out in tries:
        try:
            judged = judge(
                config,
                network,
                vocabulary,
                pattern,
                examples=_OPINIONS,
                casing=casing_of(folder),
            )
        except UserError as error:
            failure = failure or error
            continue
        kind = "held-out text" if is_held_out else "text it was trained on"
        lost = is_held_out or not config.eval_tfrecords
        reason = "" if lost else " (the held-out records can't be read)"
        return judged, note(f"Examples of {kind}{reason}: ", element("code", pattern))
    assert failure is not None
    raise failure
