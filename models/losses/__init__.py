"""Losses: pure functions of tensors that know no network and no weight."""
