"""How fast the lab's inner loops are, side by side with what people would use instead: ``make bench``."""
