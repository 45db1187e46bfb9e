"""A fine-tuning run: opened, its trials trained, scored and written."""
