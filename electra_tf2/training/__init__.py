"""The engine: it trains any objective, and knows nothing about ELECTRA or text."""
