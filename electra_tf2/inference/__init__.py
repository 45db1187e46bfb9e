"""A trained model in Python: states of texts, replaced tokens, masked words, scores."""
