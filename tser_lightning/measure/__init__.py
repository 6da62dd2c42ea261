"""What a student has learned."""
