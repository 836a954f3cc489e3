"""The outside world behind the ports: mail, payment providers."""
