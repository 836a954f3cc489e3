"""What an operator asks the server: is it alive, is it ready, what does it measure."""
