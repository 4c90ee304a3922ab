"""Messages and services of the fleet, and the code generated from them."""
