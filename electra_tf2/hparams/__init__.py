"""Hparams: typed records, their text forms, shared checks, presets and published recipes."""
