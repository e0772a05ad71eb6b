"""An OpenAI-compatible door to the engine on this computer's loopback: requests in, answers out, nothing kept."""
