"""The panels of the main screen. A widget knows what it was given, and tells by messages alone."""
