"""Other people's files: checkpoints and models of other programs."""
