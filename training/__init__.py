"""Train a run: resolve its options, take its steps, save and report its progress."""
