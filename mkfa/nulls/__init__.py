"""What chance gives: filters without patterns, or an untrained network. Nulls are entries of one table, `draws.py`."""
