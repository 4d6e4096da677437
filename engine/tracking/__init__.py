"""Connect runs to Weights & Biases: logs, artifacts, its API and its offline files."""
