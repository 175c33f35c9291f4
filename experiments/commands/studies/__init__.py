"""What a sweep can vary: one module for each sort of study, imported when it is wanted."""
