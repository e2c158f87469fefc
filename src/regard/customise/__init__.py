"""Attention customised for a task: finding modes, and the verdict on those that were found."""
