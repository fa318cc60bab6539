"""Transfer learning: what a pretrained base knows of new pictures, measured, and what is done about it."""
