"""Text to TFRecords and vocabularies, on one machine or with Apache Beam."""
