"""Measures of similarity between two sets of canonical filters. `table` names all of them and says how to add one;
`mkfa.similarity.score` computes them for many pairs of sets at once, with the formulas of the modules here."""
