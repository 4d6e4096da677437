"""Train any method through the contract in models/method.py, without naming a method."""
