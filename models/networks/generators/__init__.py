"""Generators: networks that map images to images, and their encoders and decoders."""
