"""The client SDK: one file a role."""
