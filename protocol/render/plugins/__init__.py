"""The hint plugins of dotsctl; ``hint_plugin.py`` has the contract."""
