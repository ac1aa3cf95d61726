"""Tree search: one tree, pure steps, many trees at once, preference pairs, drawings. No models here."""
