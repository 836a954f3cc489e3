"""The pages a server shows of itself: its API and its errors. No script, and no other host is asked."""
