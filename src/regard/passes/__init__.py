"""Passes: IR to IR, and IR to facts, one a file."""
