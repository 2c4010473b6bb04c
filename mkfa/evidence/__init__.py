"""The paper's printed values as data, to be shown beside the results of runs."""
