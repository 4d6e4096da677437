"""What is learned: methods, their networks and their losses. Knows torch only."""
