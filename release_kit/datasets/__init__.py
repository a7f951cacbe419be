"""Dataset files: every text in them with its place, and copies in which only given texts differ."""
