"""Tasks with a tag for every word."""
