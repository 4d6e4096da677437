"""Trains a method through its contract; knows no method by name."""
