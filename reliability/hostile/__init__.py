"""Programs that give hostile files, folders, names and servers to every command."""
