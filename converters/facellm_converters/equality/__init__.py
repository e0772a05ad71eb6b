"""Does a pair answer as its checkpoint does? The checkpoint computed in numpy beside the pair in llama.cpp."""
