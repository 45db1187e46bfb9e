"""A page about a model to look at: its pre-training, and what it was fine-tuned on."""
