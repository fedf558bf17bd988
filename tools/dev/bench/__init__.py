"""Speed of the coordinator and of its simulation."""
