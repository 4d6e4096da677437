"""Evaluate a trained run on its held-out images, and report the metrics."""
