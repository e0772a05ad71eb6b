"""FairFaceGPT: a teacher model describes labelled faces; what passes the filters becomes training conversations."""
