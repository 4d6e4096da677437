"""Programs that try to break the software: fuzzers, a storm of kills, and the table of what holds."""
