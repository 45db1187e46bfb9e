"""Tasks with one label or score for a text or a pair of texts."""
