"""What weights still tell of the data that they were trained on, measured with its uncertainty."""
