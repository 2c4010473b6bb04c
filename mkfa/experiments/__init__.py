"""Experiments: base runs, a transfer, a curve over layers, a matrix of domains. The verbs here plan the runs, let an
engine train the missing ones, and summarise the results."""
