"""From a trained adapter to models that a person can choose: converted, compared, evaluated, described."""
