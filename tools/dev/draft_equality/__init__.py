"""Reads pages with and without drafts, with each kind of weights, and compares every token."""
