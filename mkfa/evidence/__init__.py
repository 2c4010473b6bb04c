"""Claims and their verdicts, the paper's printed values beside the results of runs, and what its runs cost."""
