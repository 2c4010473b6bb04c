"""Training with borrowed filters: domains, networks, arms, runs."""
