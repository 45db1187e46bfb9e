"""A trained model with more word pieces or more positions; all else stays as it is."""
