"""How weights gather values, and what becomes of the sum.

Leaves to others: the other families.
"""
