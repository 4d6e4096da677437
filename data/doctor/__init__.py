"""Check a folder of images before training on it: python -m data.doctor."""
