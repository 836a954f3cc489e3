"""What one network may use of a server, so that no other feels it."""
