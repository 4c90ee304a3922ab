"""The price of privacy: what a backbone learns at one epsilon and cohort after another."""
