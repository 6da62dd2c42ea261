"""What a config may name, and how objects are made from plain settings that name it."""
