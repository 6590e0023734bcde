"""Prices in, windows out: panels, features, splits and their sources."""
