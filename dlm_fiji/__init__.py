"""dlm_fiji: deep-learning microscopy inside Fiji.

Importing this package starts neither Java nor PyTorch; names are loaded when they are first used.
"""
__version__ = "0.1.0"
