"""What a checkpoint's tensors are: architecture, dimensions, and one name for each role whatever the layout."""
