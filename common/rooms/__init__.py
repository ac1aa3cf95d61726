"""Papers' rooms, the folders below ``papers/``: making a new one, and telling what one still lacks."""
