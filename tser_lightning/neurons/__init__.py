"""What a student is made of."""
