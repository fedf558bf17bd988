"""Programs around the runtime, started as ``python -P -m dotsctl.tools.NAME``; nothing imports them but tests."""
