"""What was found, as documents that are written and read back."""
