"""Opening any trained model: a model folder of this program's, or one of `formats`."""
