"""The relay's door in Litestar: one socket per device, links between devices, compute jobs to devices."""
