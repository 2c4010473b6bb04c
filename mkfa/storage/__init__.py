"""Bytes to and from disk: atomic writes, folders, locks, HDF5 without trusting what a file claims, and what every
result file says of itself."""
