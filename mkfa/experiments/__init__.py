"""Which runs answer a question, and the answer: base runs, a transfer, a curve over layers, a matrix of domains. The
verbs here plan the runs, have an engine train what is missing, and sum up."""
