"""What people look at: the closing table, figures, pages. In no step's cache key."""
