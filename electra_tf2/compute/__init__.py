"""What training costs: floating-point operations of networks and runs, by formula."""
