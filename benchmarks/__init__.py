"""Benchmarks of translation quality, speed and memory."""
