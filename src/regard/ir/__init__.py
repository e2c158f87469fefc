"""The IR: what an attention program is once it is data."""
