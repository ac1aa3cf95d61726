"""WKM: README.md says what was found, method.py is the method."""
