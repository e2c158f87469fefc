"""How scores become weights.

Leaves to others: the other families.
"""
