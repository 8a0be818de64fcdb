"""What a classifier takes before it is loaded: parameters, memory and time."""
