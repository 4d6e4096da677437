"""Tests; a regular package, since some libraries install a package of the same name."""
