"""Discriminators: networks that score how real images look."""
