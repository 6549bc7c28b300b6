"""What the city says: frozen events, one file per domain. Pure."""
