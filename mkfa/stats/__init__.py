"""p-values and confidence intervals."""
