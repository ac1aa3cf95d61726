"""Papers' rooms, the folders below ``papers/``: making a new one, and checking what one still lacks."""
