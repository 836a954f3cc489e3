"""The messages of the Bifrost protocol and the device's side of it: no socket, no clock, no server."""
