"""What is in a folder of images, and what to know before training on it: python -m data.doctor."""
