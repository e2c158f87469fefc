"""For tests: an accuracy budget, input makers, and the contract suite every backend passes."""
