"""Figures: one module a figure; compute apart from draw."""
