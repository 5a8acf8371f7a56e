"""How many samples each problem gets, and what that comes to."""
