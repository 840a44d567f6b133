"""Load runs from the store into memory: once each, when they are due, and never again and again into a crash."""
