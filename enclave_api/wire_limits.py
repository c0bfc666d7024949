"""Sizes of messages, apart from the settings: clients need no more of the server than these."""

MESSAGE_BYTES_MAX = 2 * 1024 * 1024  # chunks are 1 MiB at most; nothing else comes near
CHUNK_BYTES_MAX = 1024 * 1024
