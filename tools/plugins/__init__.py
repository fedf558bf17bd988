"""``dotsctl plugins``: list the installed plugins, begin a new one, check one against its contract."""
