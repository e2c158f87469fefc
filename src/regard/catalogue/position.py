"""What a pair's places add to its score, or turn in its rows.

Leaves to others: the other families.
"""
