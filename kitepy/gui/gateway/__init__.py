"""The app's only door to the engine. `port` says what it offers, `engine` does it with `kitepy.client`, tests have a fake."""
