"""Export a trained translator as a bundle: weights, graphs, parity check, model card."""
