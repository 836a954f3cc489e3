"""Who can see me: computed from the permissions that decide requests, at the moment of the question."""
