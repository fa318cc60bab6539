"""Model versions, the gate before the champion, and who was champion when."""
