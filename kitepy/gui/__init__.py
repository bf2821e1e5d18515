"""The desktop app: windows, pages and the state behind them. Everything about containers it asks of `kitepy.client`."""
