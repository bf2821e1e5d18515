"""Values of the engine's domain; imports nothing else of ours."""
