"""What an operator runs before a launch, and what the project's own claims are measured with."""
