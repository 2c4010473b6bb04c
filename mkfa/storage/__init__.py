"""Files: atomic writes, folders, locks, HDF5 read without trust, and the heading of result files."""
