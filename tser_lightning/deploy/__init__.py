"""Trained students in the places where they are used."""
