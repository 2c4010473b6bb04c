"""Grafts: filters of a trained network replaced by those of a vocabulary, without training."""
