"""Other programs' model files, read: official TF1 checkpoints and Hugging Face folders."""
