"""Layers from which generators and discriminators are built."""
