"""Documents cut by `SegmentPlanner`, one sentence after the other: what cutting has to give."""

import numpy as np

from electra_tf2.data.segments import SegmentPlanner, example_draws
from electra_tf2.data.tfrecords import assemble_examples

CLS, SEP = 2, 3


class AddressedDraws:
    """The draws of a document's examples, handed out as the planner asks for them."""

    def __init__(self, rule, epoch, file, document, at_most):
        draws = example_draws(rule, epoch, file, document, np.arange(at_most + 1))
        self._draws = type(draws)(*(part.tolist() for part in draws))
        self._number = 0

    def target_length(self):
        return self._draws.target_lengths[self._number]

    def is_single_segment(self):
        return self._draws.single_segments[self._number]

    def joins_first(self):
        return self._draws.joins_first[self._number]

    def next_target_length(self, max_seq_length):
        self._number += 1
        return self.target_length()


def plain_examples(documents, token_ids, epoch, rule):
    """`Examples` of `Documents` by the rules."""
    plans, place = [], 0
    for row, (file, document) in enumerate(zip(documents.files, documents.numbers, strict=True)):
        own = slice(documents.splits[row], documents.splits[row + 1])
        lengths = documents.sentence_lengths[own].tolist()
        draws = AddressedDraws(rule, epoch, file, document, at_most=sum(lengths))
        planner = SegmentPlanner(
            rule.max_seq_length,
            draws,
            first_target=draws.target_length(),
            split_long_lines=rule.split_long_lines,
        )
        for length in lengths:
            planner.add_sentence(place, length)
            place += length
        planner.end_document()
        plans += planner.take_finished()
    return assemble_examples(plans, token_ids, rule.max_seq_length, CLS, SEP)
