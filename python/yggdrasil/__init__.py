"""Yggdrasil: importing the library loads nothing but this line; each room is imported by its own name."""

__version__ = "0.1.0"
