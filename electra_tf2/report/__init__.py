"""A page about a model: what was trained on what, and what came of it."""
