"""The demonstration: a real server, real sockets, a real model, several networks; `make demo` runs it."""
