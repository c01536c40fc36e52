"""Networks that several losses and papers share."""
