"""Several processes that train one run, through torch.distributed."""
