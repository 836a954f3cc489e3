"""Users: sign-in by an e-mailed code and a device key, tokens, sessions, API keys. Personal data stays in
Mimir.
"""
