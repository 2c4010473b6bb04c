"""The paper's printed values, shown beside the results of runs."""
