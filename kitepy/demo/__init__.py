"""The whole story without a screen: a virtual display, a real drag of a folder onto the window, the page it serves."""
