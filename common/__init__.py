"""What every room of the project may use: errors, files, paths, progress, tables."""
