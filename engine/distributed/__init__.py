"""Train one run with several processes, through torch.distributed."""
