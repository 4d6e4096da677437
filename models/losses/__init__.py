"""Losses: pure functions of tensors, without networks and without weights."""
