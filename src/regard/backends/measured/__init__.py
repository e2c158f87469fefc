"""What is measured on a device once: of a few ways to do the same, which is the fastest."""
