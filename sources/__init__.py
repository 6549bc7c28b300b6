"""How the city's files and protocols become our events."""
