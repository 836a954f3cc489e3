"""What a person owns in a network: devices, their keys, and who is online."""
