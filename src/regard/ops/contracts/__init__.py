"""Contracts of programs: checked, refuted with a pair, and guarded where programs are made."""
