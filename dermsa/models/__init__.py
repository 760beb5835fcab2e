"""Backbones, the soft-attention block, and classifiers made of them (Keras)."""
