"""Tasks with one label, several or a score for a text or a pair of texts."""
