"""The tokenizer in plain Python: slow, short, and what the fast one is held against."""

from collections.abc import Sequence

import numpy as np

from electra_tf2.text.normalization import normalize
from electra_tf2.text.tokenizer import RaggedIds, Tokenizer
from electra_tf2.text.wordpiece import split_word


class ReferenceTokenizer(Tokenizer):
    """Normalizes and splits one word after the other (see `Tokenizer`)."""

    def encode(self, text: str) -> list[int]:
        """Returns the ids of one text."""
        ids = self.vocabulary.ids
        result = []
        words = normalize(text, lower_case=self.lower_case, strip_accents=self.strip_accents)
        for word in words:
            pieces = split_word(word, ids)
            if pieces is None:
                result.append(self.vocabulary.unk_id)
            else:
                result.extend(ids[piece] for piece in pieces)
        return result

    def encode_lines(self, lines: Sequence[str]) -> RaggedIds:
        """Returns the ids of many texts."""
        rows = [self.encode(line) for line in lines]
        row_splits = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row) for row in rows], out=row_splits[1:])
        values = np.fromiter((i for row in rows for i in row), np.int32, row_splits[-1])
        return RaggedIds(values, row_splits)
