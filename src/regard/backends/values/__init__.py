"""Expressions of a tile in plain torch: what several backends need for rows, masks and biases."""
