"""Metrics of images and features; independent of models and folders."""
