"""Runs that differ in one setting, to compare them."""
