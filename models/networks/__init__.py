"""Networks: modules that know no loss, no optimizer and no options file."""
