"""Training of a student by a teacher."""
