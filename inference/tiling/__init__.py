"""Translate large pictures in strips, with the result of the whole picture."""
