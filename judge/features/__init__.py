"""What the statistical judge sees in a battle: one module a criterion, and what they share."""
