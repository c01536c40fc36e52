"""Parts that data sets are made of."""
