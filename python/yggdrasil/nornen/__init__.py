"""Nornen: decisions on registrations, with their facts and reasons, and the appeal against them."""
