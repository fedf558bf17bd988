"""The plugins that ``dotsctl plugins new`` copies: complete, small, and meant to be changed."""
