"""Pre-training objectives: what is hidden, what is predicted, and what counts as the loss."""
