"""Measures of similarity between two sets of canonical filters."""
