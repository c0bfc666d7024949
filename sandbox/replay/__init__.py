"""The second verdict on a log, its completeness: did every entry have the right to follow the ones before it?

A fold over events, from entry 0 on. It knows no database and no keys: what it says, anybody can say who has the log.
"""
