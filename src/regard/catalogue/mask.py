"""Which keys a query sees.

Leaves to others: the other families.
"""
