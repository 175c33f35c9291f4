"""What commands and experiments share: options, results, variants, networks."""
