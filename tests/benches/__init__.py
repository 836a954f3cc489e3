"""The benches themselves: that their guard guards."""
