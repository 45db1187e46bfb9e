"""Fine-tuned models written for other programs."""
