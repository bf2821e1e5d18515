"""Networks: bridges, addresses, sandboxes and published ports."""
