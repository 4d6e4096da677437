"""Programs that try to break the software, and the table of its guarantees."""
