"""What runs compete for: slots of concurrent runs, threads of sync steps."""
