"""Figures turned into tables and plots."""
