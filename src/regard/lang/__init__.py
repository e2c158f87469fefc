"""The language: how a person writes an attention program in Python."""
