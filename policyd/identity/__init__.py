"""Who is asking: certificates of data services, tokens of requesters, and the keys behind them."""
