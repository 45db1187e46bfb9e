"""A pre-training run: opened, started or resumed, trained and evaluated."""
