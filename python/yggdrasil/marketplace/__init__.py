"""The marketplace: offers, routing, and one compute request from admission to settlement."""
