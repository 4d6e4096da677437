"""Export a trained translator: weights, graphs, parity, model card."""
