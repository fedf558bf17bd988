"""Encoders that come with dotsctl; each is registered as an entry point like a stranger's."""
