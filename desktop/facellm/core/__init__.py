"""What we talk about: faces, facts, questions, answers, model packages, policy. No I/O, no Qt, no native library."""
