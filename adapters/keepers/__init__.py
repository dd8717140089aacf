"""Where private keys are kept: one file a way of keeping them."""
