"""Runs side by side: metrics, seeds, reproducibility, preference."""
