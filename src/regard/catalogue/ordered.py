"""What needs the keys in their order: sums over the keys before.

Leaves to others: the other families.
"""
