"""What is done to scores before they become weights.

Leaves to others: the other families.
"""
