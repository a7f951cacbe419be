"""The privacy room: find personal data in datasets and take it out before training."""
