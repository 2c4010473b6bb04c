"""Readers of checkpoints and graphs, one module a format."""
