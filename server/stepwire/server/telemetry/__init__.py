"""What an operator sees of a server. Below everything else: the others count here, `observing` wires it up."""
