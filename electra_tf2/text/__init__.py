"""Characters to token ids: normalization, WordPiece, vocabularies."""
