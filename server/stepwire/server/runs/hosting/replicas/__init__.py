"""What a replica knows of runs that others have, and how it hands its own over."""
