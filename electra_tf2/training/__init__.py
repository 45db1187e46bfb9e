"""The engine: it trains any objective, and knows nothing of ELECTRA or of text."""
