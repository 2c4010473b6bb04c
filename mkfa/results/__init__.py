"""To be written: what this package is, and what it may import."""
