"""Networks that score how real images look."""
