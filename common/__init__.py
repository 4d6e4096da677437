"""Code that all packages share: errors, atomic writes, user paths, progress and text tables."""
