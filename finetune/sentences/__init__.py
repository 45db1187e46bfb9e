"""Tasks with several texts an example: sentence embeddings, and choices."""
