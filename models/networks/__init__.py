"""Networks: modules that depend on no loss, optimizer or options file."""
