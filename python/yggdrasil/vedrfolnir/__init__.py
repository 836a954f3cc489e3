"""Vedrfolnir, the device's client: sign in, stay connected, open links, sell a local model.

Importable without the server.
"""
