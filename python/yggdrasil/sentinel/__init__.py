"""Two networks of the server's own that attack each other all day: isolation, tried where it counts."""
