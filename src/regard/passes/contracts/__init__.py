"""Proofs that a program keeps a contract, from the program alone and for calls of every size."""
