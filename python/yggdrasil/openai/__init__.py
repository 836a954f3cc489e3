"""The OpenAI-compatible API: other people's programs, our marketplace."""
