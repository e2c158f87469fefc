"""Operations: run a program on tensors, and say how it would run."""
