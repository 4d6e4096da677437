"""Compare runs: metrics side by side, mean over seeds, reproducibility, human preference."""
