"""One controller per concern: takes an intent, runs the operation through the gateway, and reports to the store."""
