"""Weights & Biases: runs, artifacts, its API and its offline files."""
