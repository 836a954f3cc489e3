"""Mimir, the privacy vault: everything that names a person, in a database of its own, sealed per person.

The rest of the house knows a person by a random user id. Only users and payments may ask here.
"""
