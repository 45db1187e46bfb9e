"""The files that a corpus may be made of: found, cut into parts, and read as text."""
