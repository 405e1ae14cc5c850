"""What is read: statements that a persona would or would not make."""
