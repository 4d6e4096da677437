"""The held-out images of an evaluation: chosen, read, translated and written."""
