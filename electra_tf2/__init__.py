"""ELECTRA on TensorFlow 2: pre-training, fine-tuning and use of replaced-token detectors.

Importing this package imports nothing else; take what you need from its subpackages.
"""

__version__ = "0.1.0"
