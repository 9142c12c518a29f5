"""The HTTP frontends of the inference server beside gRPC, and many connections at once."""
