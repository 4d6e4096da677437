"""Translate large pictures in strips, with the same result as in one piece."""
