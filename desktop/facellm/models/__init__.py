"""Where models and other assets come from, where they lie, and which files form one model."""
