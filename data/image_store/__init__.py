"""Decoded training images, from their files, memory, a disk cache or device memory."""
