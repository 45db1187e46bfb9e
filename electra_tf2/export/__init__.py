"""Trained models written for other programs: Hugging Face, SavedModel, Keras files."""
