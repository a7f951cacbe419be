"""The training room: fine-tune a base model on records and measure it on records held out."""
