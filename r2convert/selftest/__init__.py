"""The catalogue of bad files, and what the reader must do with each."""
