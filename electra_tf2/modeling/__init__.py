"""The networks: plain Keras 3 layers and models that know nothing of training."""
