"""What a plugin must be: one contract per file."""
