"""Text to TFRecords, and TFRecords to batches."""
