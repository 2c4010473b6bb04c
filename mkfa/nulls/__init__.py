"""What chance gives: filters without patterns, drawn filter by filter or taken from an untrained network."""
