"""Moving in from FlexAttention, and back: its functions as programs, its function as ours."""
