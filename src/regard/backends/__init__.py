"""Backends: each runs a program in its own way, all with the meaning of the reference."""
