"""The ledger, top-ups and payment methods of a network. Importing this package imports nothing but itself."""
