"""Layers that generators and discriminators are built from."""
