"""Architectures, each written once for ANN and SNN."""
