"""Distances between two sets of images or features, and what they say about memorized images."""
