"""What the window knows and decides, without a single widget: state machines over engine, photo and conversation."""
