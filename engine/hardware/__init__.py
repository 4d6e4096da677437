"""Choose and use the hardware: devices, CUDA graphs, compilation and memory."""
