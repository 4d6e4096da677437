"""Devices, CUDA graphs, compilation and memory."""
