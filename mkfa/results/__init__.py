"""What finished runs say together: points, curves, tables, matrices, contrasts and their intervals. Nothing here
trains."""
