"""Baton's support package: what the steps call. Steps import it; it never imports a step."""
