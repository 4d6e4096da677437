"""Methods, their networks and their losses. Depends on torch and common/ only."""
