"""Measurements: what the software reaches, how fast, in how much memory."""
