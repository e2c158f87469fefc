"""Formulas in any notation: which parts get a name, precedence, rows and their channels."""
