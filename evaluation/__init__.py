"""Evaluate a run on its held-out images: metrics, report."""
