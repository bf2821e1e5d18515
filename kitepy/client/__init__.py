"""For front ends: the bundled engine as a subprocess and the Engine API as asyncio operations."""
