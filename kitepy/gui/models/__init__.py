"""State of the app as plain values with pure reducers, and the Qt item models that show them. No I/O, no client, no asyncio."""
