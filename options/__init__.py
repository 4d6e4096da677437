"""The options of all commands: their definitions, presets, parsing and --help."""
