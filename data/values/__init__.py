"""The values of files: their range, their types, and how they become the numbers of a network."""
