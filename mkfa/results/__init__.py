"""Summaries of finished runs: points, curves, tables, matrices, contrasts and their intervals. Nothing here trains."""
